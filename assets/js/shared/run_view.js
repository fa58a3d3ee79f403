// @ts-check
// What the views of a dataset, a fine-tuning run and an evaluation have in common: how far its job is, the question
// before something is deleted, and the command that does the same.
import { copyText, el, replaceIfChanged, setText } from './dom.js';
import { formatRate, formatRemaining } from './format.js';
import { isActive } from './run_list.js';

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

// The button that deletes what a view shows, and its question. text(): the question.
export function createDeletion({ label, text, act }) {
  const button = el('button', { text: 'Delete …', onclick: () => confirm.ask(text()) });
  const confirm = createConfirm({ label, act, opener: () => button });
  return { button, node: confirm.node, hide: confirm.hide,
    offer(on) { button.hidden = !on; if (!on) confirm.hide(); } };
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
// The one that names a run. data(): what the view shows; act(name): as above.
export const createRename = ({ data, act }) => createNaming({ text: 'Rename …', label: 'Name of this run',
  title: 'An empty name takes yours back', yes: 'Rename', value: () => data().name, act });

// label: what the bar counts; actions: {name: [text, title]}; act(name).
export function createRunProgress({ label, actions, act }) {
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
    numbers.textContent = [...counted, ...speed].filter(Boolean).join(' · ');
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
export function createCommand() {
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
