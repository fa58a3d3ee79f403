// @ts-check
// Numbers with their intervals, several on one axis. All of it is HTML placed in percent, so it follows any width.
import { el } from '../shared/dom.js';
import { formatSigned } from '../shared/format.js';

export const pct = (x) => (Number.isFinite(x) ? (100 * x).toFixed(1) + ' %' : '\u2013');
export const points = (x) => formatSigned(100 * x, 1);

// A round range around some shares, with at most six ticks; `zero` keeps 0 inside.
export function shareAxis(shares, { zero = false, most = 1 } = {}) {
  const seen = shares.filter(Number.isFinite), reach = 0.005;
  let low = Math.min(...seen, zero ? 0 : Infinity), high = Math.max(...seen, zero ? 0 : -Infinity);
  if (!seen.length) { low = 0; high = 1; }
  const step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1].find((s) => (Math.ceil((high + reach) / s) - Math.floor((low - reach) / s)) <= 5) || 1;
  low = Math.max(-most, Math.floor((low - reach) / step) * step);
  high = Math.min(most, Math.ceil((high + reach) / step) * step);
  if (!zero) low = Math.max(0, low);
  const ticks = [];
  for (let n = Math.round(low / step); n * step <= high + 1e-9; n++) ticks.push(n * step);
  return { low, high, ticks, at: (x) => (100 * (Math.min(high, Math.max(low, x)) - low)) / (high - low) };
}

export function axisNode(axis, write) {
  const box = el('span', { class: 'lr-axis', 'aria-hidden': 'true' });
  for (const tick of axis.ticks) { const mark = el('span', { text: write(tick) }); mark.style.left = axis.at(tick) + '%'; box.append(mark); }
  return box;
}

// A dot with its interval; without one (the paper gives none) a hollow dot. `at`: where a dashed line stands.
export function intervalNode(axis, value, interval, { at = null, look = '' } = {}) {
  const box = el('span', { class: 'lr-interval ' + look, 'aria-hidden': 'true' });
  for (const tick of axis.ticks) { const line = el('i', { class: 'lr-interval-tick' }); line.style.left = axis.at(tick) + '%'; box.append(line); }
  if (at !== null) { const line = el('i', { class: 'lr-interval-base' }); line.style.left = axis.at(at) + '%'; box.append(line); }
  if (interval) {
    const bar = el('i', { class: 'lr-interval-bar' }), [low, high] = interval.map(axis.at);
    bar.style.left = low + '%';
    bar.style.width = Math.max(0.6, high - low) + '%';
    box.append(bar);
  }
  const dot = el('i', { class: 'lr-interval-dot' });
  dot.style.left = axis.at(value) + '%';
  box.append(dot);
  return box;
}

// A table that becomes a list of cards where it is narrow: every cell knows its column's name.
export function gridTable(name, columns, rows) {
  const head = el('tr', {}, ...columns.map((c) => el('th', { scope: 'col', class: c.class || null, title: c.says || null }, el('span', { text: c.title }), c.axis || '')));
  const body = rows.map((row) => el('tr', { class: row.class || null }, ...row.cells.map((cell, i) => {
    const content = cell instanceof Node ? cell : el('span', { text: cell ?? '\u2013' });
    return el(i ? 'td' : 'th', { class: columns[i].class || null, scope: i ? null : 'row', 'data-label': columns[i].title }, content);
  })));
  return el('div', { class: 'lr-scroll', tabindex: '0', role: 'region', 'aria-label': name },
    el('table', { class: 'lr-grid' }, el('thead', {}, head), el('tbody', {}, ...body)));
}
