// @ts-check
// The models of one benchmark: pass@1 with its intervals as a chart, and all their numbers in a table with the paper's.
import { Chart } from '../shared/chart.js';
import { el, muted } from '../shared/dom.js';
import { formatCount, plural } from '../shared/format.js';
import { gridTable, pct } from './grid_table.js';

export const METHODS_OF_PAPER = { base: 'base', sft: 'SFT', lightreasoner: 'LightReasoner' };
export const paperMark = () => el('span', { class: 'lr-paper-mark', text: 'paper' });

export const modelsChart = (tag, title) => new Chart({ tag, title, name: 'pass-at-1',
  says: '95 % intervals; the dashed line is the base' });

const COLUMNS = [
  { title: 'Model' }, { title: 'pass@1' },
  { title: '95 % interval' },
  { title: 'Right', says: 'Problems solved, of those answered; verdicts set by hand count' },
  { title: 'No answer extracted', says: 'Responses without a final answer; they count as wrong' },
  { title: 'Cut off', says: 'Responses that reached the token limit' },
  { title: 'Tokens', says: 'Mean length of a response' },
  { title: 'Tokens per second' }];

/** An interval, of shares. */
const span = ([low, high]) => (Number.isFinite(low) ? pct(low).slice(0, -2) + ' – ' + pct(high) : '–');

const SHARED = 'Not measured: other cells of the grid, or other software, wrote a part of it';
function speedCell(speed) {
  if (!Number.isFinite(speed)) return el('span', { class: 'lr-muted', title: SHARED, text: '–' });
  return speed >= 10 ? formatCount(speed) : speed.toFixed(1);
}
function cells(m, link) {
  if (!m.problems) {
    return [m.name, '', muted('not started'), '', '', '', '', ''];
  }
  const all = m.responses || m.problems, speed = m.tokens_per_second;
  const counted = (n) => (n ? formatCount(n) + ' (' + pct(n / all) + ')' : '0');
  const aside = (text) => !!text && el('span', { class: 'lr-muted lr-aside', text });
  return [link ? el('a', { href: '?tab=evaluate&run=' + m.run, text: m.name }) : m.name,
    el('span', {}, el('b', { text: pct(m.pass_at_1) }), aside(m.samples > 1 && 'avg@' + m.samples)), span(m.interval),
    el('span', {}, (m.right === null ? '–' : formatCount(m.right)) + ' of ' + formatCount(m.problems),
      aside(m.samples > 1 && 'maj@' + m.samples),
      aside(m.by_hand && formatCount(m.by_hand) + ' by hand')), counted(m.extraction_failures), counted(m.truncations),
    Number.isFinite(m.mean_length) ? m.mean_length.toFixed(1) : '–', speedCell(speed)];
}
/** models: as the server has them; the paper's are below them. */
export function modelsTable(name, models, paper, link) {
  const theirs = paper.map((p) => ({ class: 'lr-is-paper', cells: [
    el('span', {}, paperMark(), ' ' + (METHODS_OF_PAPER[p.method] || p.method)), pct(p.value),
    muted('not given'), '', '', '', '', ''] }));
  return gridTable(name, COLUMNS,
    [...models.map((m) => ({ class: m.base ? 'lr-is-base' : null, cells: cells(m, link) })), ...theirs]);
}

const withInterval = (value, interval) => el('span', {}, el('b', { text: pct(value) }),
  el('span', { class: 'lr-muted lr-aside', text: span(interval) }));
const estimated = (of) => (of ? withInterval(of.value, [of.low, of.high]) : '–');

/** avg@k, pass@k and maj@k of models that gave several responses per problem. @returns {Node[]} */
export function samplesTable(models) {
  const shown = models.filter((m) => m.samples > 1);
  if (!shown.length) return [];
  const [{ samples: k }] = shown, sizes = Object.keys(shown[0].pass_at).filter((size) => size !== '1');
  const columns = [{ title: 'Model' },
    { title: 'avg@' + k, says: 'Mean share of right responses' },
    ...sizes.map((size) => ({ title: 'pass@' + size,
      says: 'How often at least one of ' + size + ' responses is right (unbiased estimate)' })),
    { title: 'maj@' + k, says: 'The most frequent answer is right' }];
  return [el('h3', { text: plural(k, 'response') + ' per problem' }),
    muted('Each with its 95 % interval, over problems. Models are compared by maj@' + k + '.', 'p'),
    gridTable('Several responses per problem', columns, shown.map((m) => ({ cells: [m.name,
      withInterval(m.pass_at_1, m.interval), ...sizes.map((size) => estimated(m.pass_at[size])),
      estimated(m.majority)] })))];
}

/** Results by level and by subject, a column per model. @returns {Node[]} */
export function groupTables(models) {
  const having = models.filter((m) => m.groups);
  return ['level', 'subject'].flatMap((grouping) => {
    const shown = having.filter((m) => m.groups[grouping]);
    if (!shown.length) return [];
    const names = [...new Set(shown.flatMap((m) => m.groups[grouping].map(({ name }) => name)))];
    const found = (m, name) => m.groups[grouping].find((group) => group.name === name);
    const most = (name) => Math.max(...shown.map((m) => found(m, name)?.problems || 0));
    const columns = [{ title: grouping === 'level' ? 'Level' : 'Subject' },
      { title: 'Problems' }, ...shown.map((m) => ({ title: m.name }))];
    return [el('h3', { text: 'By ' + grouping }), gridTable('Results by ' + grouping, columns, names.map((name) => ({
      cells: [name, formatCount(most(name)), ...shown.map((m) => {
        const group = found(m, name);
        return group ? withInterval(group.pass_at_1, group.interval) : '–';
      })] })))];
  });
}
