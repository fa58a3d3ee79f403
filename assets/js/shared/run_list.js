// All datasets, newest first, and how one grows.

const DATASET_STATES = { growing: 'Growing', waiting: 'Waiting', done: 'Done', stopped: 'Stopped early', interrupted: 'Interrupted', failed: 'Failed', cancelled: 'Cancelled' };
const bytes = (n) => (n >= 1e9 ? (n / 1e9).toFixed(1) + ' GB' : n >= 1e6 ? (n / 1e6).toFixed(1) + ' MB' : Math.max(1, Math.round(n / 1e3)) + ' kB');
const stateBadge = (state) => el('span', { class: 'lr-badge lr-is-' + state, text: DATASET_STATES[state] || state });

function createList(onOpen) {
  const items = el('ul', { class: 'lr-datasets' });
  const count = el('span', { class: 'lr-muted' });
  const node = el('section', { class: 'lr-card lr-dataset-list', 'aria-label': 'Datasets', hidden: true }, el('div', { class: 'lr-top' }, el('h3', { text: 'Datasets' }), count), items);
  let shown = '';
  function show(datasets, open) {
    const now = JSON.stringify([datasets, open]);
    node.hidden = !datasets.length;
    if (now === shown) return;
    shown = now;
    const held = items.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    count.textContent = datasets.length > 1 ? whole(datasets.length) : '';
    items.replaceChildren(...datasets.map((d) => {
      const button = el('button', { type: 'button', class: 'lr-dataset', 'data-id': d.id, 'aria-current': d.id === open ? 'true' : null, onclick: () => onOpen(d.id) },
        el('span', { class: 'lr-dataset-name', text: d.name }), stateBadge(d.state),
        el('span', { class: 'lr-dataset-facts', text: [d.samples === null ? null : whole(d.samples) + ' samples', bytes(d.bytes), clock(d.created)].filter(Boolean).join(' \u00b7 ') }));
      return el('li', {}, button);
    }));
    if (held) items.querySelector('[data-id="' + CSS.escape(held) + '"]')?.focus();
    items.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest' });
  }
  return { node, show };
}

// Progress of the job that writes a dataset: a bar, what was counted, and what can be done about it.
function createGrowth(act) {
  const bar = el('i'), track = el('div', { class: 'lr-progress', role: 'progressbar', 'aria-label': 'Problems sampled', 'aria-valuemin': '0', 'aria-valuemax': '100' }, bar);
  const numbers = el('p', { class: 'lr-growth-numbers' }), status = el('p', { class: 'lr-muted', role: 'status' }), message = el('p', { class: 'lr-growth-message' });
  const buttons = el('div', { class: 'lr-buttons' });
  const node = el('section', { class: 'lr-growth', 'aria-label': 'How the dataset grows', hidden: true }, track, numbers, status, message, buttons);
  const ACTIONS = { keep: ['Stop and keep', 'End now, as a dataset of what is there'], cancel: ['Cancel', 'Stop at once; what is there stays until it is deleted'], resume: ['Resume', 'Go on where it stopped: nothing is sampled twice'] };
  let offered = '';
  function show(job, dataset) {
    node.hidden = !job || dataset.state === 'done';
    if (node.hidden) return;
    const active = dataset.state === 'growing' || dataset.state === 'waiting', done = active ? job.done : dataset.responses, share = job.total ? Math.min(1, done / job.total) : 0; // a batch that broke off is not there
    bar.style.width = share * 100 + '%';
    track.hidden = !active && !share;
    track.setAttribute('aria-valuenow', String(Math.round(share * 100)));
    const parts = [];
    if (job.total) parts.push(whole(done) + ' of ' + whole(job.total) + ' ' + dataset.unit);
    if (dataset.steps) parts.push(whole(dataset.steps) + ' steps', whole(dataset.above) + ' above \u03b2');
    if (active && job.rate) parts.push(pace(job.rate));
    if (active && job.eta !== null && job.eta !== undefined) parts.push('about ' + duration(job.eta) + ' left');
    numbers.textContent = parts.join(' \u00b7 ');
    const said = (active && job.status) || '';
    if (status.textContent !== said) status.textContent = said;
    message.textContent = active ? '' : job.message || '';
    message.className = 'lr-growth-message' + (dataset.state === 'failed' ? ' lr-error' : '');
    const actions = Object.keys(ACTIONS).filter((name) => (job.actions || []).includes(name)), now = actions.join();
    if (now !== offered) {
      offered = now;
      buttons.replaceChildren(...actions.map((name) => el('button', { type: 'button', 'data-act': name, title: ACTIONS[name][1], text: ACTIONS[name][0], onclick: () => act(name) })));
    }
  }
  return { node, show };
}
