// All evaluations, newest first, and the way to all results side by side.

const EVALUATION_STATES = { growing: 'Running', waiting: 'Waiting', done: 'Done', stopped: 'Stopped early', interrupted: 'Interrupted', failed: 'Failed', cancelled: 'Cancelled' };
const evaluationBadge = (state) => el('span', { class: 'lr-badge lr-is-' + state, text: EVALUATION_STATES[state] || state });

function createEvaluationList(onOpen) {
  const items = el('ul', { class: 'lr-datasets' });
  const all = el('button', { type: 'button', text: 'All results', onclick: () => onOpen(null) });
  const node = el('section', { class: 'lr-card lr-dataset-list', 'aria-label': 'Evaluations', hidden: true }, el('div', { class: 'lr-top' }, el('h3', { text: 'Evaluations' }), all), items);
  function show(evaluations, open) {
    node.hidden = !evaluations.length;
    all.hidden = !open;
    drawOnce(items, [evaluations, open], () => evaluations.map((e) => el('li', {}, el('button', { type: 'button', class: 'lr-dataset', 'data-key': e.id, 'aria-current': e.id === open ? 'true' : null, onclick: () => onOpen(e.id) },
      el('span', { class: 'lr-dataset-name', text: e.name }), evaluationBadge(e.state),
      el('span', { class: 'lr-dataset-facts', text: [e.facts, clock(e.created)].filter(Boolean).join(' \u00b7 ') })))));
  }
  return { node, show, current: () => items.querySelector('[aria-current]') };
}

// How an evaluation gets on: a bar, pace and time left, and what can be done about it.
function createEvaluationProgress(act) {
  const bar = el('i'), track = el('div', { class: 'lr-progress', role: 'progressbar', 'aria-label': 'Problems solved', 'aria-valuemin': '0', 'aria-valuemax': '100' }, bar);
  const numbers = el('p', { class: 'lr-growth-numbers' }), status = el('p', { class: 'lr-muted', role: 'status' }), message = el('p', { class: 'lr-growth-message' });
  const buttons = el('div', { class: 'lr-buttons' });
  const node = el('section', { class: 'lr-growth', 'aria-label': 'How far it is', hidden: true }, track, numbers, status, message, buttons);
  const ACTIONS = { keep: ['Stop and keep', 'Ends after the problems in hand; what is answered by then is kept'], cancel: ['Cancel', 'Stop at once; what is answered stays on disk'], resume: ['Resume', 'Go on where it stopped: nothing is solved twice'] };
  function show(data) {
    const job = data.job || {}, active = data.state === 'growing' || data.state === 'waiting';
    node.hidden = data.state === 'done' || (!data.job && !active);
    if (node.hidden) return;
    const done = data.done || 0, total = data.total || job.total || 0, share = total ? Math.min(1, done / total) : 0;
    bar.style.width = share * 100 + '%';
    track.hidden = !active && !share;
    track.setAttribute('aria-valuenow', String(Math.round(share * 100)));
    const said = [total ? whole(done) + ' of ' + plural(total, 'answer') : '', active && job.rate ? pace(job.rate) : '', active && job.eta >= 1 ? 'about ' + remaining(job.eta) : ''];
    numbers.textContent = said.filter(Boolean).join(' \u00b7 ');
    const now = (active && job.status) || '';
    if (status.textContent !== now) status.textContent = now;
    message.textContent = active ? '' : job.message || '';
    message.className = 'lr-growth-message' + (data.state === 'failed' ? ' lr-error' : '');
    const actions = Object.keys(ACTIONS).filter((name) => (job.actions || []).includes(name));
    drawOnce(buttons, actions, () => actions.map((name) => el('button', { type: 'button', 'data-key': name, title: ACTIONS[name][1], text: ACTIONS[name][0], onclick: () => act(name) })));
  }
  return { node, show };
}
