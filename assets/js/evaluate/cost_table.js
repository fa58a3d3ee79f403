// @ts-check
// What fine-tuned models cost, as measured here and in the paper, and the paper's results. The paper's numbers are
// marked as the paper's everywhere.
import { el, muted } from '../shared/dom.js';
import { formatCount, formatDuration, formatTime, plural } from '../shared/format.js';
import { gridTable, points } from './grid_table.js';
import { METHODS_OF_PAPER, paperMark } from './models_table.js';

export const shortName = (ref) => ref.replace(/\/+$/, '').split('/').pop();
const tokensText = (n) => (n >= 1e6 ? (n / 1e6).toFixed(2) + ' M' : formatCount(n));
const missing = (text) => el('span', { class: 'lr-muted lr-lacking', text });
const nameOf = ({ base, model, method }) => shortName(base || model) + ': ' + (METHODS_OF_PAPER[method] || method);
const paperName = (row) => el('span', {}, paperMark(), ' ' + nameOf(row));
const meanGain = (gain, on) => el('span', {}, el('b', { text: points(gain) }), muted(' on ' + on));

const COLUMNS = [
  { title: 'Model' },
  { title: 'Time', says: 'Sampling and fine-tuning together, without waiting' },
  { title: 'of it sampling' }, { title: 'Sampled problems' },
  { title: 'Tuned tokens', says: 'Token positions trained on, with repetitions' },
  { title: 'Gain', says: 'Points of pass@1 over the base, averaged over the evaluated benchmarks' }];

function gain({ gain: mean, gains, missing: reasons }) {
  if (mean === null) return missing(reasons.gain);
  const found = meanGain(mean, gains.length === 1 ? gains[0].benchmark : plural(gains.length, 'benchmark'));
  found.title = gains.map(({ benchmark, difference, low, high }) =>
    benchmark + ': ' + points(difference) + ' (' + points(low) + ' to ' + points(high) + ')').join('\n');
  return found;
}
function time({ seconds, tuning_seconds: tuning, missing: reasons }) {
  if (seconds !== null) return formatDuration(seconds);
  return missing(tuning === null ? reasons.tuning_seconds
    : formatDuration(tuning) + ' of fine-tuning; sampling: ' + reasons.sampling_seconds);
}
function costRow(cost) {
  const cell = (key, text) => (cost[key] === null ? missing(cost.missing[key] || 'not known') : text(cost[key]));
  const when = ' ' + formatTime(cost.created) + (cost.device ? ', on ' + cost.device : '');
  const name = el('span', {},
    el('a', { href: '?tab=evaluate&run=' + cost.run, title: 'Evaluate this model', text: nameOf(cost) }),
    el('span', { class: 'lr-muted lr-cost-when', text: when }));
  return { cells: [name, time(cost), cell('sampling_seconds', formatDuration), cell('problems', formatCount),
    cell('tuned_tokens', tokensText), gain(cost)] };
}
const paperCost = (cost) => ({ class: 'lr-is-paper', cells: [paperName(cost), formatDuration(cost.seconds),
  missing('not given'), formatCount(cost.problems), tokensText(cost.tuned_tokens),
  meanGain(cost.gain, '7 benchmarks')] });

/** The card of the costs. paper: its costs, its hardware and its source. */
export function costsCard(costs, paper) {
  const source = 'on ' + paper.hardware + ' (' + paper.source + ').';
  return el('div', { class: 'lr-card lr-results' }, el('h3', { text: 'Costs' }), muted((costs.length
    ? 'Measured here, in the form of the paper’s table; below are the paper’s own numbers, '
    : 'There is no fine-tuned model here yet, so these are only the paper’s numbers, ') + source, 'p'),
  gridTable('Costs', COLUMNS, [...costs.map(costRow), ...paper.costs.map(paperCost)]));
}

export function paperCard(paper, open) {
  const benchmarks = paper.benchmarks.map((title) => ({ title }));
  const columns = [{ title: 'Model' }, ...benchmarks, { title: 'Average' }];
  const rows = paper.scores.map((row) => ({ class: 'lr-is-paper',
    cells: [paperName(row), ...[...row.values, row.average].map((x) => (100 * x).toFixed(1))] }));
  return el('details', { class: 'lr-card lr-results', open }, el('summary', { text: 'The paper’s results' }),
    muted('Zero-shot pass@1 in percent, from ' + paper.source + '; none of it was measured here.', 'p'),
    gridTable('The paper’s results', columns, rows));
}
