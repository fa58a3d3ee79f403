// One fine-tuning run: how far it is, its curves, its settings, and what can be done with its adapter.

const CURVES = [
  { key: 'loss', title: 'Loss', unit: 'nats', says: 'KL(target \u2016 model) at the samples that are learned, mean since the point before', smooth: 10 },
  { key: 'held_out_loss', title: 'Held-out loss', unit: 'nats', says: 'The same on trajectories that were kept aside' },
  { key: 'drift', title: 'Drift', unit: 'nats', says: 'KL(expert \u2016 model) at steps that were not selected, on what was kept aside: what else has changed' },
  { key: 'learning_rate', title: 'Learning rate', unit: '', says: 'Of AdamW', zero: true },
  { key: 'grad_norm', title: 'Gradient norm', unit: '', says: 'Before it is clipped at 1', smooth: 10, zero: true },
  { key: 'samples_per_second', title: 'Samples', unit: 'a second', says: 'Learned a second', smooth: 10, zero: true },
  { key: 'tokens_per_second', title: 'Tokens', unit: 'a second', says: 'Read a second, padding included', smooth: 10, zero: true },
];
const TUNING_ACTIONS = { keep: ['Stop and keep', 'Ends after this update, with the adapter as it is by then'], cancel: ['Cancel', 'Stops at once; the checkpoints stay'], resume: ['Resume', 'Goes on from the last checkpoint'] };

// { trained, measured } of one run → { key: points }
function curvePoints({ trained, measured }) {
  const points = (from, key) => from.update.map((u, i) => [u, from[key][i]]);
  return Object.fromEntries(CURVES.map(({ key }) => [key, points(key in measured ? measured : trained, key)]));
}

function createTuning(host) {
  let data = null;
  const title = el('h2', { tabindex: '-1' }), badge = el('span'), facts = el('dl', { class: 'lr-numbers' });
  const bar = el('i'), track = el('div', { class: 'lr-progress', role: 'progressbar', 'aria-label': 'Updates made', 'aria-valuemin': '0', 'aria-valuemax': '100' }, bar);
  const status = el('p', { class: 'lr-muted', role: 'status' }), message = el('p', { class: 'lr-growth-message' }), buttons = el('div', { class: 'lr-buttons' });
  const error = el('div', { class: 'lr-error', role: 'alert', hidden: true }), notes = el('ul', { class: 'lr-sentences lr-muted' });
  const next = el('div', { class: 'lr-buttons lr-next', role: 'group', 'aria-label': 'What can be done with the adapter' }), merged = el('p', { class: 'lr-merged', role: 'status' });
  const remove = el('button', { type: 'button', text: 'Delete \u2026', onclick: () => { confirm.hidden = false; confirm.querySelector('.lr-danger').focus(); } }), sure = el('span');
  const confirm = el('div', { class: 'lr-confirm', role: 'group', 'aria-label': 'Delete this run?', hidden: true }, sure,
    el('button', { type: 'button', class: 'lr-danger', text: 'Delete it', onclick: async () => { if (await act(host.remove)) { confirm.hidden = true; remove.focus(); } } }),
    el('button', { type: 'button', text: 'Keep it', onclick: () => { confirm.hidden = true; remove.focus(); } }));
  confirm.addEventListener('keydown', (event) => { if (event.key === 'Escape') { confirm.hidden = true; remove.focus(); } });
  const push = createPush({ push: (kind, form) => host.push(kind, form), pushed: () => host.pushed() });
  const charts = createLineCharts(CURVES), curves = el('section', { class: 'lr-card lr-curves', 'aria-label': 'Curves' }, el('p', { class: 'lr-muted', text: 'Against updates' }), charts.node);
  const settings = el('dl', { class: 'lr-card-rows' }), command = el('pre', { tabindex: '0' });
  const copy = el('button', { type: 'button', text: 'Copy', onclick: async () => { copy.textContent = (await copiedText(command.textContent)) ? 'Copied' : 'Select it to copy'; } });
  const commandBox = el('details', { class: 'lr-command', hidden: true }, el('summary', { text: 'The command that does the same' }), command, copy);
  const card = el('details', { class: 'lr-card lr-model-card', hidden: true }, el('summary', { text: 'The adapter\u2019s card' }), el('div'));
  const about = el('details', { class: 'lr-card lr-settings', hidden: true }, el('summary', { text: 'Settings' }), settings);
  const node = el('section', { class: 'lr-dataset-view', 'aria-label': 'The run', hidden: true },
    el('div', { class: 'lr-card lr-dataset-head' }, el('div', { class: 'lr-top' }, el('div', { class: 'lr-dataset-title' }, title, badge), remove), confirm, error, track, status, message, buttons, facts, notes, next, merged, push.node, commandBox),
    curves, about, card);

  const fail = (text) => { error.hidden = !text; if (error.textContent !== (text || '')) error.textContent = text || ''; return text; };
  async function act(call) { const answer = await call(); return fail(answer.error); }
  async function copiedText(text) { try { await navigator.clipboard.writeText(text); return true; } catch (e) { return false; } }
  const fact = ([name, text, says]) => el('div', { title: says }, el('dt', { text: name }), el('dd', { text }));
  const button = (name, text, says, call) => el('button', { type: 'button', 'data-do': name, title: says, text, onclick: async (event) => { event.target.disabled = true; await act(call); event.target.disabled = false; } });
  const link = (text, address, says, first) => el('a', { class: first ? 'lr-job-made' : 'lr-next-link', href: address, title: says, text });
  const fresh = (place, key, nodes) => { if (place.dataset.key !== key) { const held = place.contains(document.activeElement) ? document.activeElement.dataset.do : null; place.dataset.key = key; place.replaceChildren(...nodes()); if (held) place.querySelector('[data-do="' + held + '"]')?.focus(); } };

  // How it stands: with every answer, also where the curves have not changed.
  function showState({ state, job, merge }) {
    const active = state === 'growing' || state === 'waiting', share = job.total ? Math.min(1, job.done / job.total) : 0;
    badge.replaceChildren(tuningBadge(state));
    track.hidden = !share && !active || state === 'done';
    bar.style.width = share * 100 + '%';
    track.setAttribute('aria-valuenow', String(Math.round(share * 100)));
    const words = active ? [job.total && job.done ? whole(job.done) + ' of ' + whole(job.total) + ' updates' : '', job.status || '', job.eta >= 1 ? 'about ' + remaining(job.eta) : ''].filter(Boolean).join(' \u00b7 ') : '';
    if (status.textContent !== words) status.textContent = words;
    message.textContent = active || state === 'done' ? '' : job.message || '';
    message.className = 'lr-growth-message' + (state === 'failed' ? ' lr-error' : '');
    const offered = Object.keys(TUNING_ACTIONS).filter((name) => job.actions.includes(name));
    fresh(buttons, offered.join() + data.id, () => offered.map((name) => button(name, ...TUNING_ACTIONS[name], () => host.act(name))));
    remove.hidden = active || !!(merge && merge.busy); // its job has to be stopped first
    if (remove.hidden) confirm.hidden = true;
    commandBox.hidden = !job.command;
    if (command.textContent !== (job.command || '')) { command.textContent = job.command || ''; copy.textContent = 'Copy'; }
    const ready = data.adapter && !active, made = merge && merge.folder, has = (tab) => document.getElementById('lr-tab-' + tab + '-button');
    fresh(next, JSON.stringify([data.id, ready, merge && merge.busy, made]), () => (!ready ? [] : [
      has('evaluate') ? link('Evaluate', '?' + new URLSearchParams({ tab: 'evaluate', run: data.id }), 'Did it get better? Accuracy before and after', true) : null,
      link('Inspect with this model', '?' + new URLSearchParams({ lens: data.id }), 'The tuned expert as a third model, token by token'),
      button('adapter', 'Download adapter (' + bytes(data.adapter) + ')', 'A zip that peft loads, with its card', () => host.download('adapter')),
      merge && merge.busy ? null : button('merge', made ? 'Merge again' : 'Merge into a model', 'A job that writes base and adapter as one folder, which plain transformers loads', host.merge),
      made ? button('merged', 'Download merged model (' + bytes(merge.bytes) + ')', 'A zip of the whole model', () => host.download('merged')) : null].filter(Boolean)));
    fresh(merged, JSON.stringify([merge]), () => (!merge ? [] : merge.busy ? ['Merging: ', el('a', { href: '?tab=jobs&job=' + merge.job, text: 'the job' })]
      : [merge.state === 'succeeded' ? null : 'Merging ended: ' + (merge.message || merge.state) + ' ', made ? el('span', {}, 'The merged model is in ', el('code', { text: merge.folder })) : null].filter(Boolean)));
    merged.hidden = !merged.childNodes.length;
    push.show(data.id, !ready ? [] : made ? [['adapter', 'Adapter'], ['merged', 'Merged model']] : [['adapter', 'Adapter']]);
  }
  function showNumbers() {
    const { trained, measured, lessons } = data.curves, last = (from, key) => from[key].findLast((x) => x !== null), rows = [];
    const done = data.state !== 'growing' && data.state !== 'waiting', n = (x) => (x === undefined ? null : x);
    const add = (name, value, unit, says) => { if (n(value) !== null) rows.push([name, value + (unit ? ' ' + unit : ''), says]); };
    add('Updates', whole(data.job.done) + (data.job.total && data.job.total !== data.job.done ? ' of ' + whole(data.job.total) : ''), '', 'Made so far');
    if (n(last(trained, 'samples_seen')) !== null) add('Samples seen', whole(last(trained, 'samples_seen')), '', 'Repeats counted');
    if (n(last(trained, 'epoch')) !== null) add('Passes', last(trained, 'epoch').toFixed(2), '', 'Over the data');
    if (lessons.samples) add('Samples', whole(lessons.samples), '', 'There are, with those kept aside');
    if (lessons.trajectories) add('Trajectories', whole(lessons.trajectories) + (lessons.held_out ? ', ' + whole(lessons.held_out) + ' kept aside' : ''), '', 'That the samples come from');
    if (done && data.result.seconds >= 1) add('Took', duration(data.result.seconds), '', 'Training, measuring and checkpoints; the last attempt');
    if (n(last(measured, 'held_out_loss')) !== null && done) add('Held-out loss', quantity(measured.held_out_loss.find((x) => x !== null)) + ' \u2192 ' + quantity(last(measured, 'held_out_loss')), 'nats', 'Before the first update and after the last');
    facts.replaceChildren(...rows.map(fact));
  }
  function show(next) {
    data = next;
    node.hidden = false;
    title.textContent = data.name;
    fail('');
    showState(data);
    showNumbers();
    notes.replaceChildren(...data.curves.notes.map((text) => el('li', { text })));
    notes.hidden = !data.curves.notes.length;
    curves.hidden = !data.curves.trained.update.length && !data.curves.measured.update.length;
    charts.draw(Object.fromEntries(Object.entries(curvePoints(data.curves)).map(([key, points]) => [key, [{ name: data.name, look: 0, points }]])), data.job.total);
    about.hidden = !data.settings.length;
    settings.replaceChildren(...data.settings.map(([name, value]) => el('div', {}, el('dt', { text: name }), el('dd', {}, name === 'Dataset' && data.dataset ? el('a', { href: '?' + new URLSearchParams({ tab: 'datasets', dataset: data.dataset }), text: value }) : value))));
    card.hidden = !data.card;
    if (card.dataset.text !== data.card) { card.dataset.text = data.card; card.querySelector('div').replaceChildren(...drawCard(data.card)); }
    sure.textContent = 'Delete \u201c' + data.name + '\u201d, ' + bytes(data.bytes) + ', with its adapter, its checkpoints and what was merged of it? It cannot be undone.';
  }
  return { node, show, fail, state: (now) => { data = { ...data, ...now }; showState(data); }, get data() { return data; },
    begin() { data = null; node.hidden = true; confirm.hidden = true; card.open = about.open = false; fail(''); }, focus() { title.focus({ preventScroll: true }); } };
}
