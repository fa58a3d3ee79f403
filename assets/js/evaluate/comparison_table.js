// @ts-check
// The models of an evaluation compared with its first one, problem by problem: a chart of the differences, and a table.
import { Chart } from '../shared/chart.js';
import { el } from '../shared/dom.js';
import { formatCount } from '../shared/format.js';
import { gridTable, points } from './grid_table.js';

export const comparisonChart = () => new Chart({ title: 'Difference in pass@1', name: 'differences',
  says: '95 % intervals; right of the line at 0 is better' });

const COLUMNS = [
  { title: 'Model' },
  { title: 'Points', says: 'Its pass@1 minus the first model’s, in percentage points' },
  { title: '95 % interval' },
  { title: 'Gained', says: 'Wrong before, right after' },
  { title: 'Lost', says: 'Right before, wrong after' },
  { title: 'McNemar p', class: 'lr-significance',
    says: 'McNemar’s test on the problems that changed sides; p is how often chance alone would change as many' }];
const pText = (x) => (x < 0.0001 ? 'p < 0.0001' : 'p = ' + x.toPrecision(2).replace(/^0\.00(\d)0$/, '0.00$1'));

function cells(c, name, onFlips) {
  const tone = c.verdict !== 'significant' ? null : c.difference > 0 ? 'lr-better' : 'lr-worse';
  const flips = (side) => el('button', { class: 'lr-flip-count', disabled: !c[side],
    'data-key': side + c.model, 'aria-label': formatCount(c[side]) + ' ' + side + ' by ' + name,
    text: formatCount(c[side]), onclick: () => onFlips(c.model, side) });
  return [name, el('b', { class: tone, text: points(c.difference) }), points(c.low) + ' to ' + points(c.high),
    flips('gained'), flips('lost'), el('span', {}, el('b', { text: c.verdict }),
      c.gained + c.lost > 0 && el('span', { class: 'lr-muted lr-p', text: ' (' + pText(c.p) + ')' }))];
}
/** @param {(model: number, side: string) => void} onFlips shows the problems that a model gained or lost */
export const comparisonTable = (models, comparisons, onFlips) => gridTable('Compared problem by problem', COLUMNS,
  comparisons.map((c) => ({ cells: cells(c, models[c.model].name, onFlips) })));
