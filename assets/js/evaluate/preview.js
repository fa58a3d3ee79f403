// @ts-check
// The preview of training: what decoding by contrast gains over the grid of α and β, and the way to train so.
import { Chart } from '../shared/chart.js';
import { el } from '../shared/dom.js';

const CONTRAST = 'Where KL is above β, the contrastive target’s choice is taken: what training would teach, '
  + 'if it reached its target. A small learning rate reaches less.';
const TAKEOVER = 'The amateur writes, and where KL is above β the expert’s choice is taken in place of its own.';

export const previewChart = () => new Chart({ title: 'Preview of training', name: 'preview',
  says: 'pass@1 minus the expert’s alone, on the same problems' });

/** @param {{ sentence: string, takeover: boolean, best: { alpha: number, beta: number } | null }} preview */
export function previewNotes({ sentence, takeover, best }) {
  const tune = best && el('a', { class: 'lr-job-made', text: `Fine-tune with α ${best.alpha} and β ${best.beta}`,
    href: `?tab=finetune&alpha=${best.alpha}&beta=${best.beta}` });
  return el('div', { class: 'lr-preview-verdict' },
    el('p', { class: 'lr-muted', text: takeover ? TAKEOVER : CONTRAST }),
    el('p', {}, el('b', { text: sentence }), ...(tune ? [' ', tune] : [])));
}
