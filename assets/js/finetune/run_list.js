// All fine-tuning runs, newest first. One of them can be opened, and some can be compared.

const COMPARED = 6; // as many lines as can be told apart

function createTuningList({ onOpen, onCompare }) {
  const items = el('ul', { class: 'lr-tunings' }), said = el('span', { class: 'lr-muted', role: 'status' });
  const node = el('section', { class: 'lr-card lr-dataset-list', 'aria-label': 'Fine-tuning runs', hidden: true }, el('div', { class: 'lr-top' }, el('h3', { text: 'Runs' }), said), items);
  let shown = '';
  function show(runs, open, compared) {
    const now = JSON.stringify([runs, open, compared]);
    node.hidden = !runs.length;
    if (now === shown) return;
    shown = now;
    const held = items.contains(document.activeElement) ? [document.activeElement.dataset.id, document.activeElement.tagName] : null;
    said.textContent = runs.length < 2 ? '' : compared.length === 1 ? 'Tick another one to compare' : compared.length > 1 ? compared.length + ' compared' : 'Tick two or more to compare';
    items.replaceChildren(...runs.map((run) => {
      const ticked = compared.includes(run.id), full = !ticked && compared.length >= COMPARED;
      const box = el('input', { type: 'checkbox', 'data-id': run.id, 'aria-label': 'Compare ' + run.name + ', ' + clock(run.created), disabled: full, title: full ? 'At most ' + COMPARED + ' can be compared' : 'Compare', onchange: () => onCompare(run.id, box.checked) });
      box.checked = ticked;
      return el('li', {}, runs.length > 1 ? el('label', { class: 'lr-tick-box' }, box) : null,
        el('button', { type: 'button', class: 'lr-dataset', 'data-id': run.id, 'aria-current': run.id === open ? 'true' : null, onclick: () => onOpen(run.id) },
          el('span', { class: 'lr-dataset-name', text: run.name }), tuningBadge(run.state),
          el('span', { class: 'lr-dataset-facts', text: [run.facts, clock(run.created)].filter(Boolean).join(' \u00b7 ') })));
    }));
    if (held) items.querySelector(held[1] + '[data-id="' + CSS.escape(held[0]) + '"]')?.focus();
  }
  return { node, show };
}

// A run trains where a dataset grows.
function tuningBadge(state) {
  const badge = stateBadge(state);
  if (state === 'growing') badge.textContent = 'Training';
  return badge;
}
