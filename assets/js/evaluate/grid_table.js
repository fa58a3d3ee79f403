// @ts-check
// A table that becomes a list of cards where it is narrow, and how shares and differences of shares are written in it.
import { el } from '../shared/dom.js';
import { formatSigned } from '../shared/format.js';

/** For one decimal place. Of 31.25, the command line and the figures make 31.2 (Python), but toFixed makes 31.3. */
const asPython = (x) => (Math.abs(x % 1) === 0.25 ? x - Math.sign(x) / 100 : x);
export const pct = (x) => (Number.isFinite(x) ? asPython(100 * x).toFixed(1) + ' %' : '–');
export const points = (x) => formatSigned(asPython(100 * x), 1);

/** Buttons that save a table. save(kind): of the server. @param {(kind: string) => void} save */
export const tableButtons = (save) => el('div', { class: 'lr-buttons' },
  ...[['csv', 'Save table (CSV)'], ['tex', 'Save table (LaTeX)']].map(([kind, text]) =>
    el('button', { 'data-key': 'save-' + kind, text, onclick: () => save(kind) })));

/**
 * @param {string} name
 * @param {{ title: string, class?: string, says?: string }[]} columns the first holds names, others without a class
 *   numbers; every cell knows its column's title
 * @param {{ class?: string, cells: (Node | string)[] }[]} rows
 */
export function gridTable(name, columns, rows) {
  const classOf = (i) => columns[i].class || (i ? 'lr-num' : 'lr-name');
  const head = el('tr', {}, ...columns.map(({ title, says }, i) =>
    el('th', { scope: 'col', class: classOf(i), title: says }, el('span', { text: title }))));
  const body = rows.map((row) => el('tr', { class: row.class }, ...row.cells.map((cell, i) =>
    el(i ? 'td' : 'th', { class: classOf(i), scope: i ? null : 'row', 'data-label': columns[i].title },
      cell instanceof Node ? cell : el('span', { text: cell ?? '–' })))));
  return el('div', { class: 'lr-scroll', tabindex: '0', role: 'region', 'aria-label': name },
    el('table', { class: 'lr-grid' }, el('thead', {}, head), el('tbody', {}, ...body)));
}
