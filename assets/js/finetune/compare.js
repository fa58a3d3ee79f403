// @ts-check
// Some runs over one another: their curves, and their settings with those that differ marked.
import { el, linkTo, muted } from '../shared/dom.js';
import { Curves } from './curves.js';

const letter = (i) => el('b', { style: `color:var(--lr-series-${i})`, text: String.fromCharCode(65 + i) });

export class Comparison {
  /** @param {() => void} onClose */
  constructor(onClose) {
    this.curves = new Curves();
    this.legend = el('ul', { class: 'lr-legend-list' });
    this.body = el('tbody');
    this.head = el('tr');
    this.only = el('input', { type: 'checkbox', checked: true, onchange: () => this.drawRows() });
    this.count = el('span', { class: 'lr-muted' });
    this.table = el('div', { class: 'lr-scroll', tabindex: '0', role: 'region',
      'aria-label': 'Settings of the compared runs' },
    el('table', { class: 'lr-compared' }, el('thead', {}, this.head), this.body));
    this.node = el('section', { class: 'lr-card lr-comparison', 'aria-label': 'Compared runs', hidden: true },
      el('div', { class: 'lr-top' }, el('h2', { text: 'Compare' }),
        el('button', { text: 'Close', onclick: onClose })),
      this.legend, this.curves.node,
      el('div', { class: 'lr-top' }, el('h3', { text: 'Settings' }),
        el('label', { class: 'lr-pick' }, this.only, el('span', { text: 'Only those that differ' })), this.count),
      this.table);
    this.rows = [];
    this.shown = ''; // the runs
  }
  hide() { this.node.hidden = true; }
  show({ runs, figures, table }) {
    this.node.hidden = runs.length < 2;
    if (this.node.hidden) return;
    const ids = runs.map(({ id }) => id).join();
    if (ids !== this.shown) this.curves.reset();
    this.shown = ids;
    this.rows = table;
    this.legend.replaceChildren(...runs.map(({ id, name }, i) => el('li', {}, letter(i), el('span', {},
      linkTo({ tab: 'finetune', run: id, compare: ids }, name),
      muted(this.whatIsOwn(i))))));
    this.curves.show(figures);
    this.head.replaceChildren(el('th', { scope: 'col', text: 'Setting' }),
      ...runs.map((_, i) => el('th', { scope: 'col' }, letter(i))));
    this.drawRows();
  }
  drawRows() {
    const differing = this.rows.filter((row) => row.differs), shown = this.only.checked ? differing : this.rows;
    this.count.textContent = differing.length ? `${differing.length} of ${this.rows.length} differ`
      : `All ${this.rows.length} are the same`;
    this.table.hidden = !shown.length;
    const sign = () => el('span', { class: 'lr-unequal', role: 'img', 'aria-label': 'differs', text: '≠' });
    this.body.replaceChildren(...shown.map(({ name, values, differs }) =>
      el('tr', { class: differs ? 'lr-differs-row' : null }, el('th', { scope: 'row' }, differs && sign(), name),
        ...values.map((text) => el('td', { text })))));
  }
  /** What tells a run from the others, in a few words. */
  whatIsOwn(i) {
    const short = this.rows.filter((row) => row.differs && row.name !== 'Method' && row.values[i].length < 24);
    return short.slice(0, 3).map((row) => row.name.toLowerCase() + ' ' + row.values[i]).join(', ');
  }
}
