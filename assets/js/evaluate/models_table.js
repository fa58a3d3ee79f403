// @ts-check
// The models of one benchmark in a table, with their intervals and the paper's figures.
import { el } from '../shared/dom.js';
import { formatCount } from '../shared/format.js';
import { muted } from './cost_table.js';
import { axisNode, gridTable, intervalNode, pct, shareAxis } from './plots.js';

export const METHODS_OF_PAPER = { base: 'base', sft: 'SFT', lightreasoner: 'LightReasoner' };
export const paperMark = () => el('span', { class: 'lr-paper-mark', text: 'paper' });
export const plotted = (interval, text, muted) => el('span', { class: 'lr-plot-cell' }, interval,
  el('span', { class: 'lr-between' + (muted ? ' lr-muted' : ''), text }));

// The models of one benchmark on one axis, the paper's figures below them. models: as the server has them.
export function modelsTable(name, models, paper, link) {
  const evaluated = models.filter((m) => Number.isFinite(m.pass_at_1));
  const axis = shareAxis([...evaluated.flatMap((m) => m.interval), ...paper.map((p) => p.value)]);
  const base = evaluated.find((m) => m.base);
  const columns = [
    { title: 'Model', class: 'lr-name' }, { title: 'pass@1', class: 'lr-num' },
    { title: '95 % interval', class: 'lr-plotted', axis: axisNode(axis, (x) => Math.round(100 * x) + ' %') },
    { title: 'Right', class: 'lr-num', says: 'Problems solved, of those answered' },
    { title: 'No answer extracted', class: 'lr-num', says: 'Responses without a final answer; they count as wrong' },
    { title: 'Cut off', class: 'lr-num', says: 'Responses that reached the token limit' },
    { title: 'Tokens', class: 'lr-num', says: 'Mean length of a response' },
    { title: 'Tokens per second', class: 'lr-num' }];
  const counted = (n, m) => (n ? formatCount(n) + ' (' + pct(n / m.problems) + ')' : '0');
  function cells(m) {
    if (!Number.isFinite(m.pass_at_1)) {
      return [m.name, '', el('span', { class: 'lr-muted', text: 'not started' }), '', '', '', '', ''];
    }
    const options = { at: base && !m.base ? base.pass_at_1 : null, look: m.base ? 'lr-ci-base' : '' };
    const speed = m.tokens_per_second;
    return [link ? el('a', { href: '?tab=evaluate&run=' + m.run, text: m.name }) : m.name,
      el('b', { text: pct(m.pass_at_1) }),
      plotted(intervalNode(axis, m.pass_at_1, m.interval, options), pct(m.interval[0]) + ' \u2013 ' +
        pct(m.interval[1])),
      formatCount(m.right) + ' of ' + formatCount(m.problems),
      counted(m.extraction_failures, m), counted(m.truncations, m),
      m.mean_length.toFixed(1), speed >= 10 ? formatCount(speed) : speed.toFixed(1)];
  }
  const ours = models.map((m) => ({ class: m.base ? 'lr-is-base' : '', cells: cells(m) }));
  const theirs = paper.map((p) => ({ class: 'lr-is-paper', cells: [
    el('span', {}, paperMark(), ' ' + (METHODS_OF_PAPER[p.method] || p.method)), pct(p.value),
    plotted(intervalNode(axis, p.value, null, { look: 'lr-ci-paper' }), 'no interval given', true), '', '', '', '',
      ''] }));
  return gridTable(name, columns, [...ours, ...theirs]);
}
