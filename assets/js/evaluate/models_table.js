// @ts-check
// The models of one benchmark: pass@1 with its intervals as a chart, and all their numbers in a table with the paper's.
import { Chart } from '../shared/chart.js';
import { el } from '../shared/dom.js';
import { formatCount } from '../shared/format.js';
import { gridTable, pct } from './grid_table.js';

export const METHODS_OF_PAPER = { base: 'base', sft: 'SFT', lightreasoner: 'LightReasoner' };
export const paperMark = () => el('span', { class: 'lr-paper-mark', text: 'paper' });

export const modelsChart = (tag, title) => new Chart({ tag, title, name: 'pass-at-1',
  says: '95 % intervals; the dashed line is the base' });

const COLUMNS = [
  { title: 'Model', class: 'lr-name' }, { title: 'pass@1', class: 'lr-num' },
  { title: '95 % interval', class: 'lr-num' },
  { title: 'Right', class: 'lr-num', says: 'Problems solved, of those answered' },
  { title: 'No answer extracted', class: 'lr-num', says: 'Responses without a final answer; they count as wrong' },
  { title: 'Cut off', class: 'lr-num', says: 'Responses that reached the token limit' },
  { title: 'Tokens', class: 'lr-num', says: 'Mean length of a response' },
  { title: 'Tokens per second', class: 'lr-num' }];

function cells(m, link) {
  if (!Number.isFinite(m.pass_at_1)) {
    return [m.name, '', el('span', { class: 'lr-muted', text: 'not started' }), '', '', '', '', ''];
  }
  const counted = (n) => (n ? formatCount(n) + ' (' + pct(n / m.problems) + ')' : '0'), speed = m.tokens_per_second;
  return [link ? el('a', { href: '?tab=evaluate&run=' + m.run, text: m.name }) : m.name,
    el('b', { text: pct(m.pass_at_1) }), pct(m.interval[0]).slice(0, -2) + ' \u2013 ' + pct(m.interval[1]),
    formatCount(m.right) + ' of ' + formatCount(m.problems), counted(m.extraction_failures), counted(m.truncations),
    m.mean_length.toFixed(1), speed >= 10 ? formatCount(speed) : speed.toFixed(1)];
}
/** models: as the server has them; the paper's are below them. */
export function modelsTable(name, models, paper, link) {
  const theirs = paper.map((p) => ({ class: 'lr-is-paper', cells: [
    el('span', {}, paperMark(), ' ' + (METHODS_OF_PAPER[p.method] || p.method)), pct(p.value),
    el('span', { class: 'lr-muted', text: 'not given' }), '', '', '', '', ''] }));
  return gridTable(name, COLUMNS,
    [...models.map((m) => ({ class: m.base ? 'lr-is-base' : null, cells: cells(m, link) })), ...theirs]);
}
