// @ts-check
// Publishing: the form that pushes a run, and the one that pulls a published dataset. A token stays in the password
// field, and in this page while a push is in question; it is sent once and never stored.
import { createErrorBox, el, replaceIfChanged } from './dom.js';
import { formatCount, formatProgress } from './format.js';
import { createConfirm } from './run_view.js';

const PRIVATE_HELP = 'Only its owner sees it until it is made public on the Hub.';
const REPLACE = 'Replace the repository\u2019s contents? That is a new commit; the earlier ones stay in its history.';

function hubField(label, input, help) {
  return el('label', { class: 'lr-hub-field' }, el('span', { text: label }), input,
    help ? el('small', { class: 'lr-muted', text: help }) : null);
}
function hubInput(attributes) {
  return el('input', { autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', type: 'text', ...attributes });
}
const repositoryInput = () => hubInput({ placeholder: 'OWNER/NAME', maxlength: '100' });
const tokenInput = () => hubInput({ type: 'password', autocomplete: 'new-password', maxlength: '4000' });
const logLink = (job) => el('a', { href: '?' + new URLSearchParams({ tab: 'jobs', job }), text: 'the job\u2019s log' });

// host.push(kind, form) and host.pushed(): promises of the server's answers.
export function createPush(host) {
  let id = null, timer = 0, heldToken = '', started = '';
  const kind = el('select', {}), repo = repositoryInput(), token = tokenInput();
  const license = hubInput({ placeholder: 'mit, apache-2.0, cc-by-4.0 \u2026', maxlength: '60' });
  const hidden = el('input', { type: 'checkbox', checked: true }), kindField = hubField('Content', kind);
  const error = createErrorBox(), status = el('p', { class: 'lr-hub-status', role: 'status' });
  const go = el('button', { type: 'submit', text: 'Push' });
  const confirm = createConfirm({ label: 'Replace the contents?', yes: 'Replace', no: 'Cancel',
    act: () => start(true), opener: () => { heldToken = ''; return repo; } });
  const form = el('form', { class: 'lr-hub-form', onsubmit: (event) => { event.preventDefault(); start(false); } },
    kindField, hubField('Repository', repo), hubField('Licence', license, 'As the Hub names it; may stay empty'),
    hubField('Access token', token, 'With the right to write. It is used for this push only and never stored.'),
    el('label', { class: 'lr-hub-tick' }, hidden, el('span', { text: 'Private' }),
      el('small', { class: 'lr-muted', text: PRIVATE_HELP })), go);
  const node = el('details', { class: 'lr-command lr-hub', hidden: true }, el('summary', { text: 'Push to the Hub' }),
    form, error.node, status, confirm.node);

  async function start(replace) {
    const mine = id;
    error.show('');
    confirm.hide();
    go.disabled = true;
    heldToken = token.value || heldToken;
    const answer = await host.push(kind.value, { repo: repo.value.trim(), license: license.value.trim(),
      private: hidden.checked, token: heldToken, replace });
    go.disabled = false;
    if (mine !== id || error.show(answer.error)) return;
    token.value = '';
    started = answer.job;
    look();
  }
  async function look() {
    clearTimeout(timer);
    const mine = id, answer = await host.pushed();
    if (mine !== id || answer.error) return;
    draw(answer.push);
    if (answer.push && answer.push.busy) timer = setTimeout(look, 1000);
  }
  function counted({ numbers, fraction }) {
    const { files = 0, files_in_all: all } = numbers || {};
    if (!all) return '';
    return ' \u00b7 ' + formatCount(files) + ' of ' + formatCount(all) + ' files' +
      (fraction === null ? '' : ', ' + formatProgress(fraction) + ' of the bytes');
  }
  function hubLink(address) {
    if (!/^https?:\/\//.test(address || '')) return 'the Hub';
    return el('a', { href: address, target: '_blank', rel: 'noopener noreferrer',
      text: address.replace(/^https?:\/\//, '') });
  }
  function draw(push) {
    go.disabled = !!(push && push.busy);
    if (!push) { status.replaceChildren(); return; }
    const log = logLink(push.id), done = push.state === 'succeeded';
    if (push.busy) status.replaceChildren((push.status || 'Pushing') + counted(push) + ': ', log);
    else if (done) status.replaceChildren('Pushed to ', hubLink(push.address), ': ', log);
    else status.replaceChildren((push.message || 'The push ended: ' + push.state + '.') + ' ', log);
    if (push.busy) return;
    // only the page that started the push asks whether to replace
    if (push.existing && push.id === started && heldToken) confirm.ask(REPLACE, false);
    else if (done || push.id === started) heldToken = '';
  }
  return { node, show(run, offered) { // offered: [[kind, text]]
    replaceIfChanged(kind, offered, () => offered.map(([value, text]) => el('option', { value, text })));
    kindField.hidden = offered.length < 2;
    node.hidden = !offered.length;
    if (run === id) return;
    id = run;
    heldToken = token.value = started = '';
    node.open = false;
    confirm.hide(); error.show(''); draw(null);
    if (run && offered.length) look();
  } };
}

// host.pull(repo, token), host.pulled(job): promises of answers; host.done(run) shows the new dataset.
export function createPull(host) {
  let timer = 0, job = null;
  const repo = repositoryInput(), token = tokenInput(), error = createErrorBox();
  const status = el('p', { class: 'lr-hub-status', role: 'status' }),
    go = el('button', { type: 'submit', text: 'Pull' });
  const form = el('form', { class: 'lr-hub-form', onsubmit: start }, hubField('Repository', repo),
    hubField('Access token', token, 'For private ones only. It is used once and never stored.'), go);
  const node = el('details', { class: 'lr-card lr-command lr-hub lr-hub-pull' },
    el('summary', { text: 'Pull from the Hub' }),
    form, error.node, status);

  async function start(event) {
    event.preventDefault();
    error.show('');
    go.disabled = true;
    const answer = await host.pull(repo.value.trim(), token.value);
    go.disabled = false;
    if (error.show(answer.error)) return;
    token.value = '';
    job = answer.job;
    look();
  }
  async function look() {
    clearTimeout(timer);
    const mine = job, answer = await host.pulled(job);
    if (mine !== job || answer.error) return;
    const { busy, state, status: text, message, id, run } = answer.pull, log = logLink(id);
    go.disabled = busy;
    if (busy) {
      status.replaceChildren((text || 'Pulling') + ': ', log);
      timer = setTimeout(look, 1000);
    } else if (state === 'succeeded') {
      status.replaceChildren('Pulled: ', log);
      host.done(run);
    } else status.replaceChildren((message || 'The pull ended: ' + state + '.') + ' ', log);
  }
  return { node };
}
