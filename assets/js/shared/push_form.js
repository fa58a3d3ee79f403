// Publishing: the small form under a run, and the field that brings a published dataset in. A token is held by the
// password field and, while a push is asked about, by this page; it is sent along once and never stored.

const PUSH_AWAY = 'Only its owner sees it until it is made public there.';

function hubField(label, input, says) { return el('label', { class: 'lr-hub-field' }, el('span', { text: label }), input, says ? el('small', { class: 'lr-muted', text: says }) : null); }
function hubInput(attributes) { return el('input', { autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', type: 'text', ...attributes }); }

// host.push(kind, form) and host.pushed(): promises of the server's answers.
function createPush(host) {
  let id = null, timer = 0, held = '', kinds = [], told = '';
  const kind = el('select', {}), repo = hubInput({ placeholder: 'OWNER/NAME', maxlength: '100' }), license = hubInput({ placeholder: 'mit, apache-2.0, cc-by-4.0 \u2026', maxlength: '60' });
  const token = hubInput({ type: 'password', autocomplete: 'new-password', maxlength: '4000' }), hidden = el('input', { type: 'checkbox', checked: true });
  const what = hubField('What', kind), error = el('div', { class: 'lr-error', role: 'alert', hidden: true }), status = el('p', { class: 'lr-hub-status', role: 'status' });
  const go = el('button', { type: 'submit', text: 'Push' });
  const sure = el('div', { class: 'lr-confirm', role: 'group', 'aria-label': 'Replace what is there?', hidden: true }, el('span', { text: 'Put this in the place of what is in that repository? It is a new commit there; the old ones stay in its history.' }),
    el('button', { type: 'button', class: 'lr-danger', text: 'Replace it', onclick: () => start(true) }), el('button', { type: 'button', text: 'Leave it', onclick: () => { sure.hidden = true; held = ''; repo.focus(); } }));
  const form = el('form', { class: 'lr-hub-form', onsubmit: (event) => { event.preventDefault(); start(false); } }, what, hubField('Repository', repo),
    hubField('Licence', license, 'As the Hub names it; may stay empty'),
    hubField('Access token', token, 'Yours, with the right to write. Used for this push only and stored nowhere.'),
    el('label', { class: 'lr-hub-tick' }, hidden, el('span', { text: 'Private' }), el('small', { class: 'lr-muted', text: PUSH_AWAY })), go);
  const node = el('details', { class: 'lr-command lr-hub', hidden: true }, el('summary', { text: 'Push to the Hub' }), form, error, status, sure);

  const fail = (text) => { error.hidden = !text; error.textContent = text || ''; };
  async function start(replace) {
    const mine = id;
    fail(''); sure.hidden = true; go.disabled = true;
    held = token.value || held;
    const answer = await host.push(kind.value, { repo: repo.value.trim(), license: license.value.trim(), private: hidden.checked, token: held, replace });
    go.disabled = false;
    if (mine !== id) return;
    if (answer.error) { fail(answer.error); return; }
    token.value = '';
    told = answer.job;
    look();
  }
  async function look() {
    clearTimeout(timer);
    const mine = id, answer = await host.pushed();
    if (mine !== id) return;
    if (answer.error) return;
    draw(answer.push);
    if (answer.push && answer.push.busy) timer = setTimeout(look, 1000);
  }
  function draw(push) {
    go.disabled = !!(push && push.busy);
    const job = push && el('a', { href: '?' + new URLSearchParams({ tab: 'jobs', job: push.id }), text: 'the job\u2019s log' });
    if (!push) { status.replaceChildren(); return; }
    const n = push.numbers || {}, far = n.files_in_all ? ' \u00b7 ' + whole(n.files || 0) + ' of ' + whole(n.files_in_all) + ' files' + (push.fraction !== null ? ', ' + Math.floor(push.fraction * 100) + ' % of the bytes' : '') : '';
    if (push.busy) status.replaceChildren((push.status || 'Pushing') + far + ': ', job);
    else if (push.state === 'succeeded') { held = ''; const safe = /^https?:\/\//.test(push.address || ''); status.replaceChildren('Pushed to ', safe ? el('a', { href: push.address, target: '_blank', rel: 'noopener noreferrer', text: push.address.replace(/^https?:\/\//, '') }) : 'the Hub', ': ', job); }
    else {
      status.replaceChildren((push.message || 'The push ended: ' + push.state + '.') + ' ', job);
      if (push.existing && push.id === told && held) sure.hidden = false; // only who has just asked is asked back
      else if (push.id === told) held = '';
    }
  }
  return { node, show(run, offered) { // offered: [[kind, words]]
    const names = JSON.stringify(offered);
    if (kinds !== names) { kinds = names; kind.replaceChildren(...offered.map(([value, text]) => el('option', { value, text }))); what.hidden = offered.length < 2; }
    node.hidden = !offered.length;
    if (run === id) return;
    id = run; held = token.value = told = ''; sure.hidden = true; node.open = false; fail(''); draw(null);
    if (run && offered.length) look();
  } };
}

// host.pull(repo, token), host.pulled(job): promises of answers; host.done(run) shows what has come.
function createPull(host) {
  let timer = 0, job = null;
  const repo = hubInput({ placeholder: 'OWNER/NAME', maxlength: '100' }), token = hubInput({ type: 'password', autocomplete: 'new-password', maxlength: '4000' });
  const error = el('div', { class: 'lr-error', role: 'alert', hidden: true }), status = el('p', { class: 'lr-hub-status', role: 'status' }), go = el('button', { type: 'submit', text: 'Pull' });
  const form = el('form', { class: 'lr-hub-form', onsubmit: async (event) => {
    event.preventDefault();
    error.hidden = true; go.disabled = true;
    const answer = await host.pull(repo.value.trim(), token.value);
    go.disabled = false;
    if (answer.error) { error.hidden = false; error.textContent = answer.error; return; }
    token.value = '';
    job = answer.job; look();
  } }, hubField('Repository', repo), hubField('Access token', token, 'For private ones only. Used once and stored nowhere.'), go);
  const node = el('details', { class: 'lr-card lr-command lr-hub lr-hub-pull' }, el('summary', { text: 'Pull from the Hub' }), form, error, status);
  async function look() {
    clearTimeout(timer);
    const mine = job, answer = await host.pulled(job);
    if (mine !== job || answer.error) return;
    const { pull } = answer, link = el('a', { href: '?' + new URLSearchParams({ tab: 'jobs', job: pull.id }), text: 'the job\u2019s log' });
    go.disabled = pull.busy;
    if (pull.busy) { status.replaceChildren((pull.status || 'Pulling') + ': ', link); timer = setTimeout(look, 1000); }
    else if (pull.state === 'succeeded') { status.replaceChildren('Pulled: ', link); host.done(pull.run); }
    else status.replaceChildren((pull.message || 'The pull ended: ' + pull.state + '.') + ' ', link);
  }
  return { node };
}
