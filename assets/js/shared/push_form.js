// @ts-check
// Publishing: the form that pushes a run, and the one that pulls a published dataset. A token stays in the password
// field, and in this page while a push is in question; it is sent once and never stored.
import { createErrorBox, el, linkTo, muted, optionsOf, replaceIfChanged } from './dom.js';
import { formatCount, formatProgress } from './format.js';
import { createConfirm } from './run_view.js';

const PRIVATE_HELP = 'Only its owner sees it until it is made public on the Hub.';
const REPLACE = 'Replace the repository’s contents? That is a new commit; the earlier ones stay in its history.';

function hubField(label, input, help) {
  return el('label', { class: 'lr-hub-field' }, el('span', { text: label }), input, help ? muted(help, 'small') : null);
}
function hubInput(attributes) {
  return el('input', { autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', type: 'text', ...attributes });
}
const repositoryInput = () => hubInput({ placeholder: 'OWNER/NAME', maxlength: '100' });
const tokenInput = () => hubInput({ type: 'password', autocomplete: 'new-password', maxlength: '4000' });
const logLink = (job) => linkTo({ tab: 'jobs', job }, 'the job’s log');

/** How much of a push is done. */
function counted({ numbers, fraction }) {
  const { files = 0, files_in_all: all } = numbers || {};
  if (!all) return '';
  return ' · ' + formatCount(files) + ' of ' + formatCount(all) + ' files' +
    (fraction === null ? '' : ', ' + formatProgress(fraction) + ' of the bytes');
}
function hubLink(address) {
  if (!/^https?:\/\//.test(address || '')) return 'the Hub';
  return el('a', { href: address, target: '_blank', rel: 'noopener noreferrer',
    text: address.replace(/^https?:\/\//, '') });
}

class PushForm {
  constructor(host) {
    this.host = host;
    this.id = null; // the run
    this.timer = 0;
    this.heldToken = '';
    this.started = ''; // the push that this page started
    this.kind = el('select', {});
    this.repo = repositoryInput();
    this.token = tokenInput();
    this.license = hubInput({ placeholder: 'mit, apache-2.0, cc-by-4.0 …', maxlength: '60' });
    this.hidden = el('input', { type: 'checkbox', checked: true });
    this.kindField = hubField('Content', this.kind);
    this.error = createErrorBox();
    this.status = el('p', { class: 'lr-hub-status', role: 'status' });
    this.go = el('button', { type: 'submit', text: 'Push' });
    this.confirm = createConfirm({ label: 'Replace the contents?', yes: 'Replace', no: 'Cancel',
      act: () => this.start(true), opener: () => { this.heldToken = ''; return this.repo; } });
    const start = (event) => { event.preventDefault(); this.start(false); };
    const form = el('form', { class: 'lr-hub-form', onsubmit: start }, this.kindField,
      hubField('Repository', this.repo), hubField('Licence', this.license, 'As the Hub names it; may stay empty'),
      hubField('Access token', this.token, 'With the right to write. It is used for this push only and never stored.'),
      el('label', { class: 'lr-hub-tick' }, this.hidden, el('span', { text: 'Private' }),
        muted(PRIVATE_HELP, 'small')), this.go);
    this.node = el('details', { class: 'lr-command lr-hub', hidden: true }, el('summary', { text: 'Push to the Hub' }),
      form, this.error.node, this.status, this.confirm.node);
  }
  async start(replace) {
    const { id, go, token } = this;
    this.error.show('');
    this.confirm.hide();
    go.disabled = true;
    this.heldToken = token.value || this.heldToken;
    const answer = await this.host.push(this.kind.value, { repo: this.repo.value.trim(), token: this.heldToken, replace,
      license: this.license.value.trim(), private: this.hidden.checked });
    go.disabled = false;
    if (id !== this.id || this.error.show(answer.error)) return;
    token.value = '';
    this.started = answer.job;
    this.look();
  }
  async look() {
    clearTimeout(this.timer);
    const { id } = this, answer = await this.host.pushed();
    if (id !== this.id || answer.error) return;
    this.draw(answer.push);
    if (answer.push && answer.push.busy) this.timer = setTimeout(() => this.look(), 1000);
  }
  draw(push) {
    const { status } = this;
    this.go.disabled = !!(push && push.busy);
    if (!push) { status.replaceChildren(); return; }
    const log = logLink(push.id), done = push.state === 'succeeded';
    if (push.busy) status.replaceChildren((push.status || 'Pushing') + counted(push) + ': ', log);
    else if (done) status.replaceChildren('Pushed to ', hubLink(push.address), ': ', log);
    else status.replaceChildren((push.message || 'The push ended: ' + push.state + '.') + ' ', log);
    if (push.busy) return;
    // only the page that started the push asks whether to replace
    if (push.existing && push.id === this.started && this.heldToken) this.confirm.ask(REPLACE, false);
    else if (done || push.id === this.started) this.heldToken = '';
  }
  /** @param {string} run @param {string[][]} offered [kind, text] of what can be pushed */
  show(run, offered) {
    replaceIfChanged(this.kind, offered, () => optionsOf(offered));
    this.kindField.hidden = offered.length < 2;
    this.node.hidden = !offered.length;
    if (run === this.id) return;
    this.id = run;
    this.heldToken = this.token.value = this.started = '';
    this.node.open = false;
    this.confirm.hide(); this.error.show(''); this.draw(null);
    if (run && offered.length) this.look();
  }
}
// host.push(kind, form) and host.pushed(): promises of the server's answers.
export const createPush = (host) => new PushForm(host);

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
