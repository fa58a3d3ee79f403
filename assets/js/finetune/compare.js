// @ts-check
// Some runs over one another: their curves, and their settings with those that differ marked.
import { el } from '../shared/dom.js';
import { createLineCharts, lineSample } from './line_charts.js';
import { CURVES, curvePoints } from './run.js';

export function createComparison({ onClose }) {
  const legend = el('ul', { class: 'lr-legend-list' }), charts = createLineCharts(CURVES.filter(({ key }) => !key.endsWith('_per_second')).concat(CURVES.filter(({ key }) => key.endsWith('_per_second'))));
  const body = el('tbody'), head = el('tr'), only = el('input', { type: 'checkbox' }), count = el('span', { class: 'lr-muted' });
  const table = el('div', { class: 'lr-scroll', tabindex: '0', role: 'region', 'aria-label': 'Settings of the compared runs' }, el('table', { class: 'lr-compared' }, el('thead', {}, head), body));
  only.checked = true;
  only.addEventListener('change', () => rows());
  const node = el('section', { class: 'lr-card lr-comparison', 'aria-label': 'Compared runs', hidden: true },
    el('div', { class: 'lr-top' }, el('h2', { text: 'Compare' }), el('button', { type: 'button', text: 'Close', onclick: onClose })), legend, charts.node,
    el('div', { class: 'lr-top' }, el('h3', { text: 'Settings' }), el('label', { class: 'lr-pick' }, only, el('span', { text: 'Only those that differ' })), count), table);
  let data = null;

  function rows() {
    const differing = data.table.filter((row) => row.differs), shown = only.checked ? differing : data.table;
    count.textContent = differing.length ? differing.length + ' of ' + data.table.length + ' differ' : 'All ' + data.table.length + ' are the same';
    table.hidden = !shown.length;
    body.replaceChildren(...shown.map((row) => el('tr', { class: row.differs ? 'lr-differs-row' : null }, el('th', { scope: 'row' }, row.differs ? el('span', { class: 'lr-unequal', role: 'img', 'aria-label': 'differs', text: '\u2260' }) : null, row.name), ...row.values.map((text) => el('td', { text })))));
  }
  function show(next) {
    data = next;
    node.hidden = data.runs.length < 2;
    if (node.hidden) return;
    const named = (run, i) => String.fromCharCode(65 + i) + ' \u00b7 ' + run.name;
    legend.replaceChildren(...data.runs.map((run, i) => el('li', {}, lineSample(i), el('span', {}, el('a', { href: '?' + new URLSearchParams({ tab: 'finetune', run: run.id, compare: data.runs.map((r) => r.id).join() }), text: named(run, i) }), el('span', { class: 'lr-muted', text: distinct(i) })))));
    const points = data.runs.map((run) => curvePoints(run.curves));
    charts.draw(Object.fromEntries(CURVES.map(({ key }) => [key, data.runs.map((run, i) => ({ name: String.fromCharCode(65 + i), look: i, points: points[i][key] }))])));
    head.replaceChildren(el('th', { scope: 'col', text: 'Setting' }), ...data.runs.map((run, i) => el('th', { scope: 'col' }, lineSample(i), ' ', String.fromCharCode(65 + i))));
    rows();
  }
  // What tells this run from the others, in a few words.
  function distinct(i) {
    return data.table.filter((row) => row.differs && row.name !== 'Method' && row.values[i].length < 24).slice(0, 3).map((row) => row.name.toLowerCase() + ' ' + row.values[i]).join(', ');
  }
  return { node, show, hide() { node.hidden = true; } };
}
