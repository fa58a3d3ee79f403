// @ts-check
// The preview of training: what decoding by contrast gains over the grid of α and β, and the way to train so.
import { Chart } from '../shared/chart.js';
import { el, linkTo, muted } from '../shared/dom.js';
import { gridTable, pct } from './grid_table.js';

const CONTRAST = 'Where KL is above β, the contrastive target’s choice is taken: what training would teach, '
  + 'if it reached its target. A small learning rate reaches less.';
const TAKEOVER = 'The amateur writes, and where KL is above β the expert’s choice is taken in place of its own.';

const GAIN = 'pass@1 minus the expert’s alone, on the same problems';
const OTHERS = 'problems with another answer than the expert’s alone';

export const previewChart = () => new Chart({ title: 'Preview of training', name: 'preview', says: GAIN });
export const nameChart = (chart, { takeover, graded }) =>
  chart.rename(takeover ? 'Takeover' : 'Preview of training', graded ? GAIN : OTHERS);

const COLUMNS = [{ title: 'Cell' },
  { title: 'Same answer', says: 'Problems with the expert’s own final answer, or none in both' },
  { title: 'Changed', says: 'Tokens that are not the writer’s own choice' },
  { title: 'Tokens', says: 'Mean length of a response; the expert’s own in brackets' }];
/** How far each cell departs from the expert, where no answers are known. */
const departures = ({ cells, takeover }) => gridTable('How far each cell departs from the expert', COLUMNS,
  cells.map((c) => ({ cells: [(takeover ? '' : 'α ' + c.alpha + ', ') + 'β ' + c.beta, pct(c.same_answer),
    pct(c.changed), c.mean_length.toFixed(1) + ' (' + c.base_length.toFixed(1) + ')'] })));

/**
 * @param {{ sentence: string, takeover: boolean, graded: boolean, cells: any[],
 *   best: { alpha: number, beta: number, cap: number | null } | null }} preview
 */
export function previewNotes(preview) {
  const { sentence, takeover, graded, best } = preview;
  const capped = best && best.cap !== null;
  const numbers = best && `α ${best.alpha} and β ${best.beta}` + (capped ? ` and a cap of ${best.cap} nats` : '');
  const link = (tab, text) => linkTo({ tab, alpha: best.alpha, beta: best.beta, ...(capped ? { cap: best.cap } : {}) },
    text, { class: 'lr-job-made' });
  return el('div', { class: 'lr-preview-verdict' },
    muted(takeover ? TAKEOVER : CONTRAST, 'p'),
    el('p', {}, el('b', { text: sentence })),
    best && el('div', { class: 'lr-buttons' }, link('finetune', 'Fine-tune with ' + numbers),
      link('datasets', 'Build a dataset to select with them')),
    !graded && departures(preview));
}
