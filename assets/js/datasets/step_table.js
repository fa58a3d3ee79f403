// @ts-check
// The steps of a dataset, one page of rows at a time; the server sorts, filters and counts.
import { el, labelled, muted, optionsOf, replaceIfChanged } from '../shared/dom.js';
import { PAPER } from '../shared/engine_data.js';
import { formatCount, formatNats, plural, tokenLabel, tokenName } from '../shared/format.js';

const MARKS = [
  ['keep', '✓', 'Keep: always a training sample, whatever β is'],
  ['drop', '✕', 'Drop: never a training sample'],
  ['pin', '★', 'Pin: a bookmark, shown first'],
];
const ORDERS = [['kl', 'Most divergent first'], ['-kl', 'Least divergent first'], ['teaching', 'Teaches most first'],
  ['order', 'As sampled']];
const EACH = [['', 'Every step'], ['each', 'One per response']];
const MARKED = [['', 'All steps'], ['any', 'Marked'], ['keep', 'Kept'], ['drop', 'Dropped'], ['pin', 'Pinned']];
const COLUMNS = [['Text before', 'lr-num'], ['Token'], ['KL', 'lr-num'], ['Teaches', 'lr-num'],
  ['Expert → amateur'], ['Category'], ['Step', 'lr-num'], ['Mark']];
const UNFILTERED = { search: '', kind: '', mark: '', order: 'kl', each: '' };

// Three toggles; at most one is on. set(kind or null): a promise of an error's text, or of nothing.
export function markButtons(name, current, set) {
  const box = el('span', { class: 'lr-marks', role: 'group', 'aria-label': 'Mark ' + name });
  for (const [kind, sign, says] of MARKS) {
    const button = el('button', { class: 'lr-mark-' + kind, 'aria-pressed': String(current === kind),
      'aria-label': kind + ', ' + name, title: says, text: sign });
    button.addEventListener('click', async () => {
      const next = button.getAttribute('aria-pressed') === 'true' ? null : kind;
      if (await set(next)) return;
      box.querySelectorAll('button').forEach((b) =>
        b.setAttribute('aria-pressed', String(b === button && next !== null)));
    });
    box.append(button);
  }
  return box;
}

/** The teaching signal in nats. */
function teachingCell({ teaching }) {
  const known = Number.isFinite(teaching);
  return el('td', { class: 'lr-num' + (known && teaching >= PAPER.teaches ? '' : ' lr-muted'),
    title: known ? null : 'Not stored in detail, so what it would teach is unknown',
    text: known ? formatNats(teaching) : '—' });
}
/** The top-1 tokens of the two models. */
function topTokens({ expert, amateur, agree }) {
  if (expert === null || expert === undefined) return [muted('not stored')];
  return [el('code', { text: tokenLabel(expert, 14) }), agree ? muted(' both')
    : el('code', { text: ' → ' + tokenLabel(amateur, 14) })];
}

export class StepTable {
  /**
   * @param {object} host
   * @param {() => void} host.onFilter another filter or page: the rows of `query` are to be shown
   * @param {(row: any) => void} host.onOpen
   * @param {(row: any, kind: string | null) => Promise<string>} host.onMark a promise of an error's text
   */
  constructor(host) {
    this.host = host;
    this.filter = UNFILTERED;
    this.page = 0;
    this.search = el('input', { type: 'search', placeholder: 'Token, problem, response', maxlength: '200',
      'aria-label': 'Search tokens, problems and responses' });
    const select = (name, label, title, choices) => {
      const box = el('select', { 'aria-label': title, onchange: () => this.change({ [name]: box.value }) },
        ...optionsOf(choices));
      return { box, node: labelled(label, box) };
    };
    this.selects = { kind: select('kind', 'Category', 'Show only tokens of this category', []),
      mark: select('mark', 'Marks', 'Show only steps with this mark', MARKED),
      order: select('order', 'Order', 'Sort the steps by', ORDERS),
      each: select('each', 'List', 'Every step, or the first in this order of each response', EACH) };
    this.found = el('span', { class: 'lr-muted lr-found', role: 'status' });
    this.body = el('tbody');
    this.table = el('table', { class: 'lr-steps', 'aria-label': 'Steps' }, el('thead', {}, el('tr', {},
      ...COLUMNS.map(([text, c]) => el('th', { scope: 'col', class: c, text })))), this.body);
    this.nothing = el('p', { class: 'lr-muted lr-none', hidden: true,
      text: 'No step matches; widen the range, or clear the search.' });
    this.back = el('button', { text: '‹ Back', onclick: () => this.turn(-1) });
    this.next = el('button', { text: 'Next ›', onclick: () => this.turn(1) });
    this.position = el('span', { class: 'lr-muted', role: 'status' });
    this.pager = el('nav', { class: 'lr-pager', 'aria-label': 'Pages of steps' }, this.back, this.position, this.next);
    this.node = el('section', { class: 'lr-card lr-step-list', 'aria-label': 'Steps of the dataset' },
      el('div', { class: 'lr-filters' }, el('h3', { text: 'Steps' }), this.found, this.search,
        ...Object.values(this.selects).map(({ node }) => node)),
      el('div', { class: 'lr-scroll', tabindex: '0', role: 'region', 'aria-label': 'Table of steps' }, this.table),
      this.nothing, this.pager);
    let timer = 0;
    this.search.addEventListener('input', () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.change({ search: this.search.value.trim() }), 250);
    });
  }
  get query() { return { ...this.filter, page: this.page }; }

  change(more) {
    this.filter = { ...this.filter, ...more };
    this.page = 0;
    this.host.onFilter();
  }
  turn(by) { this.page += by; this.host.onFilter(); }
  /** @param {string[][]} kinds the categories of the dataset: [kind, title] */
  offer(kinds) {
    const { box } = this.selects.kind;
    replaceIfChanged(box, kinds, () => optionsOf([['', 'All tokens'], ...kinds]));
    box.value = this.filter.kind;
  }
  pick(kind) {
    this.selects.kind.box.value = kind;
    this.change({ kind });
  }
  reset() {
    this.filter = UNFILTERED;
    this.page = 0;
    this.search.value = '';
    for (const [name, { box }] of Object.entries(this.selects)) box.value = UNFILTERED[name];
  }
  busy(is) { this.table.setAttribute('aria-busy', String(is)); }

  line(row) {
    const name = 'step ' + row.step + ' of ' + row.problem;
    const tr = el('tr', { class: row.selected ? 'lr-selected-step' : '' },
      el('td', { class: 'lr-before', title: row.before }, el('bdi', { text: row.before })),
      el('td', {}, el('button', { class: 'lr-open', text: tokenLabel(row.token, 18),
        'aria-label': 'Open ' + name + ', ' + tokenName(row.token) })),
      el('td', { class: 'lr-num', text: (row.least ? '≥ ' : '') + formatNats(row.kl ?? Infinity) }),
      teachingCell(row),
      el('td', { class: 'lr-top-tokens' }, ...topTokens(row)),
      el('td', { text: row.kind }),
      el('td', { class: 'lr-num', title: row.problem, text: row.step }),
      el('td', {}, markButtons(name, row.mark, (kind) => this.host.onMark(row, kind))));
    tr.addEventListener('click', ({ target }) => {
      if (!(/** @type {Element} */ (target).closest('.lr-marks'))) this.host.onOpen(row);
    });
    return tr;
  }
  show({ rows, total, size }) {
    const { back, next } = this, pages = Math.max(1, Math.ceil(total / size)), focused = document.activeElement;
    this.page = Math.min(this.page, pages - 1);
    this.body.replaceChildren(...rows.map((row) => this.line(row)));
    this.found.textContent = plural(total, 'step');
    this.nothing.hidden = total > 0;
    this.table.hidden = !total;
    this.pager.hidden = pages < 2;
    back.disabled = this.page === 0;
    next.disabled = this.page >= pages - 1;
    this.position.textContent = 'Page ' + formatCount(this.page + 1) + ' of ' + formatCount(pages);
    if (focused === back && back.disabled) next.focus();
    if (focused === next && next.disabled) back.focus();
  }
}
