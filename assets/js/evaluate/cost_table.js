// @ts-check
// All results side by side, the costs, and the paper's figures, which are marked as the paper's everywhere.
import { el, replaceIfChanged } from '../shared/dom.js';
import { formatCount, formatDuration, formatTime, plural } from '../shared/format.js';
import { METHODS_OF_PAPER, modelsTable, paperMark } from './models_table.js';
import { gridTable, points } from './plots.js';

const shortName = (ref) => ref.replace(/\/+$/, '').split('/').pop();
const tokensText = (n) => (n >= 1e6 ? (n / 1e6).toFixed(2) + ' M' : formatCount(n));
const missing = (text) => el('span', { class: 'lr-muted lr-lacking', text });
export const muted = (text) => el('p', { class: 'lr-muted', text });
const nameOf = ({ base, model, method }) => shortName(base || model) + ': ' + (METHODS_OF_PAPER[method] || method);
const paperName = (row) => el('span', {}, paperMark(), ' ' + nameOf(row));

export function createOverview() {
  const place = el('div', { class: 'lr-overview' });
  const node = el('section', { class: 'lr-run-view', 'aria-label': 'All results', hidden: true }, place);

  function results(data) {
    if (!data.groups.length) return [];
    return [el('div', { class: 'lr-card lr-results' }, el('h3', { text: 'All results' }),
      muted('Each model\u2019s largest evaluation on each benchmark; the dashed line is its base. The paper\u2019s ' +
        'numbers are below ours where it has the same model and benchmark.'),
      ...data.groups.flatMap(({ base, title, models, paper }) => [el('h4', {}, shortName(base) + ' on ' + title),
        modelsTable(title + ', ' + shortName(base), models, paper, true)]))];
  }

  function gain({ gain: mean, gains, missing: reasons }) {
    if (mean === null) return missing(reasons.gain);
    const lines = gains.map(({ benchmark, difference, low, high }) =>
      benchmark + ': ' + points(difference) + ' (' + points(low) + ' to ' + points(high) + ')');
    const on = gains.length === 1 ? gains[0].benchmark : plural(gains.length, 'benchmark');
    return el('span', { title: lines.join('\n') }, el('b', { text: points(mean) }),
      el('span', { class: 'lr-muted', text: ' on ' + on }));
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
  function costs(data) {
    const columns = [
      { title: 'Model', class: 'lr-name' },
      { title: 'Time', class: 'lr-num', says: 'Sampling and fine-tuning together, without waiting' },
      { title: 'of it sampling', class: 'lr-num' }, { title: 'Sampled problems', class: 'lr-num' },
      { title: 'Tuned tokens', class: 'lr-num', says: 'Token positions trained on, with repetitions' },
      { title: 'Gain', class: 'lr-num', says: 'Points of pass@1 over the base, averaged over the evaluated benchmarks' }];
    const theirs = data.paper.costs.map((cost) => ({ class: 'lr-is-paper', cells: [paperName(cost),
      formatDuration(cost.seconds), missing('not given'), formatCount(cost.problems), tokensText(cost.tuned_tokens),
      el('span', {}, points(cost.gain), el('span', { class: 'lr-muted', text: ' on 7 benchmarks' }))] }));
    const source = 'on ' + data.paper.hardware + ' (' + data.paper.source + ').';
    return el('div', { class: 'lr-card lr-results' }, el('h3', { text: 'Costs' }), muted((data.costs.length
      ? 'Measured here, in the form of the paper\u2019s table; below are the paper\u2019s own numbers, '
      : 'There is no fine-tuned model here yet, so these are only the paper\u2019s numbers, ') + source),
    gridTable('Costs', columns, [...data.costs.map(costRow), ...theirs]));
  }

  function paper(data) {
    const benchmarks = data.paper.benchmarks.map((title) => ({ title, class: 'lr-num' }));
    const columns = [{ title: 'Model', class: 'lr-name' }, ...benchmarks, { title: 'Average', class: 'lr-num' }];
    const rows = data.paper.scores.map((row) => ({ class: 'lr-is-paper',
      cells: [paperName(row), ...[...row.values, row.average].map((x) => (100 * x).toFixed(1))] }));
    return el('details', { class: 'lr-card lr-results', open: !!place.querySelector('details')?.open },
      el('summary', { text: 'The paper\u2019s results' }),
      muted('Zero-shot pass@1 in percent, from ' + data.paper.source + '; none of it was measured here.'),
      gridTable('The paper\u2019s results', columns, rows));
  }
  return { node, hide() { node.hidden = true; }, show(data) {
    node.hidden = false;
    replaceIfChanged(place, data, () => [...results(data), costs(data), paper(data)]);
  } };
}
