// @ts-check
// What the views of a dataset, a fine-tuning run, an evaluation and an experiment have in common: their head, the
// question before what cannot be undone, and the field for a name.
import { copyText, createErrorBox, el, replaceIfChanged, setText, termsOf } from './dom.js';
import { formatRate, formatRemaining, joined } from './format.js';
import { isActive, runningWord, stateBadge } from './run_list.js';

// A question before what cannot be undone; the harmless answer has the focus. act(): a promise of an error's text;
// opener(): the button that asked.
export function createConfirm({ label, yes = 'Delete it', no = 'Keep it', act, opener }) {
  const close = () => { node.hidden = true; opener()?.focus(); };
  const question = el('span'), keep = el('button', { text: no, onclick: close });
  const go = async () => { if (await act()) close(); else node.hidden = true; };
  const node = el('div', { class: 'lr-confirm', role: 'group', 'aria-label': label, hidden: true }, question,
    el('button', { class: 'lr-danger', text: yes, onclick: go }), keep);
  node.addEventListener('keydown', (event) => { if (event.key === 'Escape') close(); });
  return { node, hide() { node.hidden = true; }, ask(text, focus = true) {
    question.textContent = text;
    node.hidden = false;
    if (focus) keep.focus();
  } };
}

// A button that opens a field for a name. value(): what the field begins with; act(name): a promise of an error's text.
export function createNaming({ text, title, label, yes, value, act }) {
  const input = el('input', { type: 'text', maxlength: '80', 'aria-label': label });
  const close = () => { node.hidden = true; button.focus(); };
  const button = el('button', { text, title, onclick: () => {
    input.value = value();
    node.hidden = false;
    input.select();
  } });
  const node = el('form', { class: 'lr-naming', hidden: true, onsubmit: async (event) => {
    event.preventDefault();
    if (!(await act(input.value))) close();
  } }, input, el('button', { type: 'submit', text: yes }),
  el('button', { text: 'Not now', onclick: close }));
  node.addEventListener('keydown', (event) => { if (event.key === 'Escape') close(); });
  return { button, node, hide() { node.hidden = true; } };
}

// label: what the bar counts; actions: {name: [text, title]}; act(name).
function createRunProgress({ label, actions, act }) {
  const bar = el('i'), track = el('div', { class: 'lr-progress', role: 'progressbar', 'aria-label': label,
    'aria-valuemin': '0', 'aria-valuemax': '100' }, bar);
  const numbers = el('p', { class: 'lr-progress-numbers' }), status = el('p', { class: 'lr-muted', role: 'status' });
  const message = el('p'), buttons = el('div', { class: 'lr-buttons' });
  const node = el('section', { class: 'lr-run-progress', 'aria-label': 'Progress', hidden: true },
    track, numbers, status, message, buttons);
  // counted: texts on what is done; the job's rate and the time left follow them
  function show({ state, job, done, total, counted }) {
    const active = isActive(state), fraction = total ? Math.min(1, done / total) : 0;
    node.hidden = state === 'done' || (!job && !active);
    if (node.hidden) return;
    const { rate, eta, actions: offered = [] } = job || {};
    bar.style.width = fraction * 100 + '%';
    track.hidden = !fraction && !(active && job);
    track.setAttribute('aria-valuenow', String(Math.round(fraction * 100)));
    const speed = active ? [formatRate(rate), eta >= 1 ? 'about ' + formatRemaining(eta) : ''] : [];
    numbers.textContent = joined([...counted, ...speed]);
    setText(status, (active && job && job.status) || '');
    setText(message, (!active && job.message) || '');
    message.className = state === 'failed' ? 'lr-error' : '';
    const names = Object.keys(actions).filter((name) => offered.includes(name));
    replaceIfChanged(buttons, names, () => names.map((name) => el('button', { 'data-key': name,
      text: actions[name][0], title: actions[name][1], onclick: () => act(name) })));
  }
  return { node, show };
}

// The command that does the same, to copy.
function createCommand() {
  const command = el('pre', { tabindex: '0' });
  const copy = el('button', { text: 'Copy', onclick: async () => {
    copy.textContent = (await copyText(command.textContent)) ? 'Copied' : 'Select it to copy';
  } });
  const node = el('details', { class: 'lr-command', hidden: true },
    el('summary', { text: 'The command that does the same' }), command, copy);
  return { node, show(text) {
    node.hidden = !text;
    if (command.textContent === (text || '')) return;
    command.textContent = text || '';
    copy.textContent = 'Copy';
  } };
}

/** The head of a run's view: its name and state, what can be done with it, how far its job is, facts, and command. */
export class RunHead {
  /**
   * @param {any} host of RunTab
   * @param {{ noun: string, deletes: () => string, counts: string, actions: Record<string, string[]> }} words
   *   deletes(): the question before it is deleted; counts: what its progress counts; actions: as createRunProgress
   */
  constructor(host, { noun, deletes, counts, actions }) {
    /** The error's text of a call. @param {() => Promise<any>} call */
    this.act = async (call) => this.error.show((await call()).error);
    this.title = el('h2', { tabindex: '-1' });
    this.badge = el('span');
    this.facts = el('dl', { class: 'lr-numbers' });
    this.error = createErrorBox();
    this.command = createCommand();
    this.progress = createRunProgress({ label: counts, actions, act: (name) => this.act(() => host.act(name)) });
    this.deletion = el('button', { text: 'Delete …', onclick: () => this.confirm.ask(deletes()) });
    this.confirm = createConfirm({ label: 'Delete this ' + noun + '?', act: () => this.act(host.remove),
      opener: () => this.deletion });
    this.naming = createNaming({ text: 'Rename …', title: 'An empty name takes yours back', label: 'Name of this run',
      yes: 'Rename', value: () => this.title.textContent, act: (name) => this.act(() => host.rename(name)) });
  }
  /** @param {{ buttons?: Node[], forms?: Node[], parts: Node[] }} more beside the name, below it, and of the head */
  layOut({ buttons = [], forms = [], parts }) {
    return el('div', { class: 'lr-card lr-run-head' },
      el('div', { class: 'lr-top' }, el('div', { class: 'lr-run-title' }, this.title, this.badge),
        el('div', { class: 'lr-buttons' }, ...buttons, this.naming.button, this.deletion)),
      this.naming.node, ...forms, this.confirm.node, this.error.node, ...parts, this.command.node);
  }
  /** @param {any} run @param {string} [running] the word for a run in progress */
  show({ name, state, job, facts, command }, running) {
    const word = runningWord(job, running);
    setText(this.title, name);
    replaceIfChanged(this.badge, [state, word], () => [stateBadge(state, word)]);
    replaceIfChanged(this.facts, facts, () => termsOf(facts));
    this.command.show(command);
    this.offerDeletion(!isActive(state)); // a job has to be stopped first
  }
  offerDeletion(on) {
    this.deletion.hidden = !on;
    if (!on) this.confirm.hide();
  }
  /** Another run will be shown. */
  begin() {
    this.confirm.hide();
    this.naming.hide();
    this.error.show('');
  }
}
