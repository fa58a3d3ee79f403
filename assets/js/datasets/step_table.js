// The steps of a dataset, a page of rows at a time; sorting, filtering and counting happen on the server.

const MARKS = [
  ['keep', '\u2713', 'Keep: always a training sample, whatever \u03b2 says'],
  ['drop', '\u2715', 'Drop: never a training sample'],
  ['pin', '\u2605', 'Pin: a bookmark, shown first'],
];

// Three toggles; at most one is on. `set(kind or null)` answers with an error's text or nothing.
function markButtons(name, current, set) {
  const box = el('span', { class: 'lr-marks', role: 'group', 'aria-label': 'Mark ' + name });
  for (const [kind, sign, says] of MARKS) {
    const button = el('button', { type: 'button', class: 'lr-mark-' + kind, 'aria-pressed': String(current === kind), 'aria-label': kind + ', ' + name, title: says, text: sign });
    button.addEventListener('click', async () => {
      const next = button.getAttribute('aria-pressed') === 'true' ? null : kind;
      if (await set(next)) return;
      box.querySelectorAll('button').forEach((b) => b.setAttribute('aria-pressed', String(b === button && next !== null)));
    });
    box.append(button);
  }
  return box;
}

function createSteps({ onFilter, onOpen, onMark }) {
  let filter = { search: '', mark: '', order: 'kl' }, page = 0, timer = 0;
  const search = el('input', { type: 'search', placeholder: 'Token, problem, response', 'aria-label': 'Search tokens, problems and responses', maxlength: '200' });
  const order = select('Order', 'Sort the steps by', [['kl', 'Most divergent first'], ['-kl', 'Least divergent first'], ['order', 'As sampled']]);
  const mark = select('Marks', 'Show only steps with this mark', [['', 'All steps'], ['any', 'Marked'], ['keep', 'Kept'], ['drop', 'Dropped'], ['pin', 'Pinned']]);
  const said = el('span', { class: 'lr-muted lr-found', role: 'status' });
  const body = el('tbody');
  const head = el('tr', {}, ...[['Before it', 'lr-num'], ['Token'], ['KL', 'lr-num'], ['Expert \u2192 amateur'], ['Kind'], ['Step', 'lr-num'], ['Mark']].map(([text, c]) => el('th', { scope: 'col', class: c, text })));
  const table = el('table', { class: 'lr-steps', 'aria-label': 'Steps' }, el('thead', {}, head), body);
  const back = el('button', { type: 'button', text: '\u2039 Back', onclick: () => turn(-1) }), on = el('button', { type: 'button', text: 'Next \u203a', onclick: () => turn(1) });
  const where = el('span', { class: 'lr-muted', role: 'status' });
  const pager = el('nav', { class: 'lr-pager', 'aria-label': 'Pages of steps' }, back, where, on);
  const nothing = el('p', { class: 'lr-muted lr-none', hidden: true });
  const node = el('section', { class: 'lr-card lr-step-list', 'aria-label': 'Steps of the dataset' },
    el('div', { class: 'lr-filters' }, el('h3', { text: 'Steps' }), said, search, mark.label, order.label),
    el('div', { class: 'lr-scroll', tabindex: '0', role: 'region', 'aria-label': 'Table of steps' }, table), nothing, pager);

  function select(name, label, choices) {
    const box = el('select', { 'aria-label': label }, ...choices.map(([value, text]) => el('option', { value, text })));
    return { box, label: el('label', { class: 'lr-pick' }, el('span', { text: name }), box) };
  }
  function change() { filter = { search: search.value.trim(), mark: mark.box.value, order: order.box.value }; page = 0; onFilter(); }
  search.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(change, 250); });
  for (const { box } of [order, mark]) box.addEventListener('change', change);
  function turn(by) { page += by; onFilter(); }

  function line(row) {
    const open = el('button', { type: 'button', class: 'lr-open', 'aria-label': 'Open step ' + row.step + ' of ' + row.problem + ', ' + tokenName(row.token), text: tokenLabel(row.token, 18) });
    const name = 'step ' + row.step + ' of ' + row.problem;
    const said = row.expert === null || row.expert === undefined ? null : [tokenLabel(row.expert, 14), row.agree ? ' both' : ' \u2192 ' + tokenLabel(row.amateur, 14)];
    const tr = el('tr', { class: row.selected ? 'lr-selected-step' : '' },
      el('td', { class: 'lr-before', title: row.before }, el('bdi', { text: row.before })),
      el('td', {}, open),
      el('td', { class: 'lr-num', text: nats(finite(row.kl)) }),
      el('td', { class: 'lr-said-by' }, ...(said ? [el('code', { text: said[0] }), row.agree ? el('span', { class: 'lr-muted', text: said[1] }) : el('code', { class: 'lr-differ', text: said[1] })] : [el('span', { class: 'lr-muted', text: 'not stored' })])),
      el('td', { text: row.kind }),
      el('td', { class: 'lr-num', title: row.problem, text: row.step }),
      el('td', {}, markButtons(name, row.mark, (kind) => onMark(row, kind))));
    tr.addEventListener('click', (event) => { if (!event.target.closest('.lr-marks')) onOpen(row); });
    return tr;
  }
  function show(answer) {
    const size = answer.size, pages = Math.max(1, Math.ceil(answer.total / size)), held = document.activeElement;
    page = Math.min(page, pages - 1);
    body.replaceChildren(...answer.rows.map(line));
    said.textContent = whole(answer.total) + (answer.total === 1 ? ' step' : ' steps');
    nothing.hidden = answer.total > 0;
    nothing.textContent = answer.why || 'No step fits; widen the range, or clear the search.';
    table.hidden = !answer.total;
    pager.hidden = pages < 2;
    back.disabled = page === 0;
    on.disabled = page >= pages - 1;
    where.textContent = 'Page ' + whole(page + 1) + ' of ' + whole(pages);
    if (held === back && back.disabled) on.focus();
    if (held === on && on.disabled) back.focus();
  }
  return { node, show, get query() { return { ...filter, page }; }, first() { page = 0; },
    reset() { search.value = ''; mark.box.value = ''; order.box.value = 'kl'; filter = { search: '', mark: '', order: 'kl' }; page = 0; },
    busy(is) { table.setAttribute('aria-busy', is ? 'true' : 'false'); } };
}
