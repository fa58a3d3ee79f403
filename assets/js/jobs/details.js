// What an opened job shows: what went wrong, what can be done, its numbers, its command, the end of its log.

function createJobDetails(id, doing) {
  const error = el('div', { class: 'lr-error', hidden: true }), refused = el('div', { class: 'lr-error', role: 'alert', hidden: true });
  const actions = el('div', { class: 'lr-job-actions', role: 'group', 'aria-label': 'What can be done with this job' });
  const link = el('a', { class: 'lr-job-made', hidden: true });
  const facts = el('dl', { class: 'lr-job-facts' });
  const command = el('pre', { class: 'lr-job-command', tabindex: '0', 'aria-label': 'The command that does the same' });
  const copied = el('span', { class: 'lr-said', role: 'status' });
  const copy = el('button', { type: 'button', text: 'Copy', 'aria-label': 'Copy the command', onclick: async () => {
    try { await navigator.clipboard.writeText(command.textContent); copied.textContent = 'Copied'; } catch (e) {
      getSelection().selectAllChildren(command); // no clipboard without https: select it, so that Ctrl+C does it
      copied.textContent = 'Selected; press Ctrl+C';
    }
    setTimeout(() => { copied.textContent = ''; }, 4000);
  } });
  const log = el('pre', { class: 'lr-job-log', tabindex: '0', 'aria-label': 'The end of the log' });
  const confirm = el('div', { class: 'lr-job-confirm', role: 'group', 'aria-label': 'Delete this job?', hidden: true },
    el('span', { text: 'Take this job and its log off the list? What it made stays.' }),
    el('button', { type: 'button', class: 'lr-danger', text: 'Delete', onclick: () => { ask(false); doing('delete'); } }),
    el('button', { type: 'button', text: 'Keep it', onclick: () => ask(false) }));
  confirm.addEventListener('keydown', (event) => { if (event.key === 'Escape') ask(false); });
  const node = el('div', {}, error, refused, el('div', { class: 'lr-job-does' }, link, actions), confirm, facts,
    el('div', { class: 'lr-job-part' }, el('h4', { text: 'Command' }), copy, copied), command,
    el('div', { class: 'lr-job-part' }, el('h4', { text: 'Log' })), log);

  function ask(on) {
    confirm.hidden = !on;
    const button = on ? confirm.querySelector('button:last-child') : actions.querySelector('[data-action="delete"]');
    if (button) button.focus();
  }
  function draw(names) {
    if (actions.dataset.names === names.join()) return;
    const focused = document.activeElement && actions.contains(document.activeElement) ? document.activeElement.dataset.action : null;
    actions.dataset.names = names.join();
    actions.replaceChildren(...names.map((name) => el('button', { type: 'button', 'data-action': name, title: ACTIONS[name].title, text: ACTIONS[name].says,
      onclick: () => (name === 'delete' ? ask(true) : doing(name)) })));
    if (!names.includes('delete')) confirm.hidden = true;
    if (focused) (actions.querySelector('[data-action="' + focused + '"]') || node.closest('li').querySelector('.lr-job-open')).focus();
  }
  function update(job) {
    const bad = job.state === 'failed' || job.state === 'interrupted';
    error.hidden = !bad || !job.message;
    set(error, job.message || '');
    draw(Object.keys(ACTIONS).filter((name) => job.actions.includes(name)));
    const target = made(job);
    link.hidden = !target;
    if (target) { set(link, target[0]); link.setAttribute('href', target[1]); }
    const rows = [['Queued', job.created && timeNode(job.created)], ['Started', job.started && timeNode(job.started)], ['Ended', job.ended && timeNode(job.ended)],
      ['Attempt', job.attempt > 1 && String(job.attempt)]];
    for (const [name, value] of Object.entries({ ...job.numbers, ...job.result })) if (typeof value !== 'object') rows.push([label(name), figure(value, name)]);
    const shown = rows.filter(([, value]) => value), key = JSON.stringify(shown.map(([name, value]) => [name, value.textContent || value]));
    if (facts.dataset.key !== key) {
      facts.dataset.key = key;
      facts.replaceChildren(...shown.map(([name, value]) => el('div', {}, el('dt', { text: name }), el('dd', {}, value))));
    }
    set(command, job.command);
  }
  return { node, update,
    busy(on) { actions.querySelectorAll('button').forEach((b) => { b.disabled = on; }); },
    fail(message) { refused.hidden = !message; refused.textContent = message; },
    // It follows its end while its end is in sight.
    log(text) {
      if (log.textContent === (text || 'Nothing written yet.')) return;
      const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
      log.textContent = text || 'Nothing written yet.';
      if (follows) log.scrollTop = log.scrollHeight;
    } };
}
