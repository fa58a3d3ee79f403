// @ts-check
// The steps of a dataset, one page of rows at a time; the server sorts, filters and counts.
import { el } from '../shared/dom.js';
import { formatCount, formatNats, plural, tokenLabel, tokenName } from '../shared/format.js';

const MARKS = [
  ['keep', '\u2713', 'Keep: always a training sample, whatever \u03b2 is'],
  ['drop', '\u2715', 'Drop: never a training sample'],
  ['pin', '\u2605', 'Pin: a bookmark, shown first'],
];
const UNFILTERED = { search: '', mark: '', order: 'kl' };

// Three toggles; at most one is on. set(kind or null): a promise of an error's text, or of nothing.
export function markButtons(name, current, set) {
  const box = el('span', { class: 'lr-marks', role: 'group', 'aria-label': 'Mark ' + name });
  for (const [kind, sign, says] of MARKS) {
    const button = el('button', { type: 'button', class: 'lr-mark-' + kind, 'aria-pressed': String(current === kind),
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

export function createSteps({ onFilter, onOpen, onMark }) {
  let filter = UNFILTERED, page = 0, timer = 0;
  const search = el('input', { type: 'search', placeholder: 'Token, problem, response', maxlength: '200',
    'aria-label': 'Search tokens, problems and responses' });
  const order = select('Order', 'Sort the steps by',
    [['kl', 'Most divergent first'], ['-kl', 'Least divergent first'], ['order', 'As sampled']]);
  const mark = select('Marks', 'Show only steps with this mark',
    [['', 'All steps'], ['any', 'Marked'], ['keep', 'Kept'], ['drop', 'Dropped'], ['pin', 'Pinned']]);
  const found = el('span', { class: 'lr-muted lr-found', role: 'status' }), body = el('tbody');
  const COLUMNS = [['Text before', 'lr-num'], ['Token'], ['KL', 'lr-num'], ['Expert \u2192 amateur'], ['Category'],
    ['Step', 'lr-num'], ['Mark']];
  const head = el('tr', {}, ...COLUMNS.map(([text, c]) => el('th', { scope: 'col', class: c, text })));
  const table = el('table', { class: 'lr-steps', 'aria-label': 'Steps' }, el('thead', {}, head), body);
  const back = el('button', { type: 'button', text: '\u2039 Back', onclick: () => turn(-1) });
  const next = el('button', { type: 'button', text: 'Next \u203a', onclick: () => turn(1) });
  const position = el('span', { class: 'lr-muted', role: 'status' });
  const pager = el('nav', { class: 'lr-pager', 'aria-label': 'Pages of steps' }, back, position, next);
  const nothing = el('p', { class: 'lr-muted lr-none', hidden: true });
  const node = el('section', { class: 'lr-card lr-step-list', 'aria-label': 'Steps of the dataset' },
    el('div', { class: 'lr-filters' }, el('h3', { text: 'Steps' }), found, search, mark.label, order.label),
    el('div', { class: 'lr-scroll', tabindex: '0', role: 'region', 'aria-label': 'Table of steps' }, table), nothing,
      pager);

  function select(name, label, choices) {
    const box = el('select', { 'aria-label': label }, ...choices.map(([value, text]) => el('option', { value, text })));
    return { box, label: el('label', { class: 'lr-pick' }, el('span', { text: name }), box) };
  }
  function change() {
    filter = { search: search.value.trim(), mark: mark.box.value, order: order.box.value };
    page = 0;
    onFilter();
  }
  search.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(change, 250); });
  for (const { box } of [order, mark]) box.addEventListener('change', change);
  function turn(by) { page += by; onFilter(); }

  // The top-1 tokens of the two models.
  function topTokens({ expert, amateur, agree }) {
    if (expert === null || expert === undefined) return [el('span', { class: 'lr-muted', text: 'not stored' })];
    return [el('code', { text: tokenLabel(expert, 14) }), agree ? el('span', { class: 'lr-muted', text: ' both' })
      : el('code', { text: ' \u2192 ' + tokenLabel(amateur, 14) })];
  }
  function line(row) {
    const name = 'step ' + row.step + ' of ' + row.problem;
    const tr = el('tr', { class: row.selected ? 'lr-selected-step' : '' },
      el('td', { class: 'lr-before', title: row.before }, el('bdi', { text: row.before })),
      el('td', {}, el('button', { type: 'button', class: 'lr-open', text: tokenLabel(row.token, 18),
        'aria-label': 'Open ' + name + ', ' + tokenName(row.token) })),
      el('td', { class: 'lr-num', text: formatNats(row.kl ?? Infinity) }),
      el('td', { class: 'lr-top-tokens' }, ...topTokens(row)),
      el('td', { text: row.kind }),
      el('td', { class: 'lr-num', title: row.problem, text: row.step }),
      el('td', {}, markButtons(name, row.mark, (kind) => onMark(row, kind))));
    tr.addEventListener('click', (event) => { if (!event.target.closest('.lr-marks')) onOpen(row); });
    return tr;
  }
  function show({ rows, total, size, why }) {
    const pages = Math.max(1, Math.ceil(total / size)), focused = document.activeElement;
    page = Math.min(page, pages - 1);
    body.replaceChildren(...rows.map(line));
    found.textContent = plural(total, 'step');
    nothing.hidden = total > 0;
    nothing.textContent = why || 'No step matches; widen the range, or clear the search.';
    table.hidden = !total;
    pager.hidden = pages < 2;
    back.disabled = page === 0;
    next.disabled = page >= pages - 1;
    position.textContent = 'Page ' + formatCount(page + 1) + ' of ' + formatCount(pages);
    if (focused === back && back.disabled) next.focus();
    if (focused === next && next.disabled) back.focus();
  }
  return { node, show, get query() { return { ...filter, page }; }, first() { page = 0; },
    reset() { search.value = ''; mark.box.value = ''; order.box.value = 'kl'; filter = UNFILTERED; page = 0; },
    busy(is) { table.setAttribute('aria-busy', String(is)); } };
}
