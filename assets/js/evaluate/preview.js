// @ts-check
// The preview of training: what decoding by contrast gains over the grid of α and β, and the way to train so.
import { Chart } from '../shared/chart.js';
import { el } from '../shared/dom.js';

const SAYS = 'Where KL is above β, the contrastive target’s choice is taken: what training would teach, '
  + 'if it reached its target. A small learning rate reaches less.';

export const previewChart = () => new Chart({ title: 'Preview of training', name: 'preview', says: SAYS });

/** @param {{ sentence: string, best: { alpha: number, beta: number } | null }} preview */
export function previewNotes({ sentence, best }) {
  const tune = best && el('a', { class: 'lr-job-made', text: `Fine-tune with α ${best.alpha} and β ${best.beta}`,
    href: `?tab=finetune&alpha=${best.alpha}&beta=${best.beta}` });
  return el('p', { class: 'lr-preview-verdict' }, el('b', { text: sentence }), ...(tune ? [' ', tune] : []));
}
