// @ts-check
// The details of an opened job: its error, its buttons, its numbers, its command, the end of its log.
import { copyText, createErrorBox, el, replaceIfChanged, termsOf, setText } from '../shared/dom.js';
import { fieldName, formatValue, timeNode } from '../shared/format.js';
import { createConfirm } from '../shared/run_view.js';
import { ACTIONS, QUICK, actionButtons, resultLink } from './states.js';

const NO_LOG = 'The log is empty so far.';

export function createJobDetails(id, start) {
  const error = el('div', { class: 'lr-error', hidden: true }), refused = createErrorBox();
  const buttons = el('div', { class: 'lr-job-actions', role: 'group', 'aria-label': 'Actions on this job' });
  const link = el('a', { class: 'lr-job-made', hidden: true });
  const facts = el('dl', { class: 'lr-job-facts' });
  const command = el('pre', { class: 'lr-job-command', tabindex: '0', 'aria-label': 'The command that does the same' });
  const copied = el('span', { class: 'lr-action-status', role: 'status' });
  const copy = el('button', { text: 'Copy', 'aria-label': 'Copy the command', onclick: async () => {
    const done = await copyText(command.textContent);
    if (!done) getSelection().selectAllChildren(command); // so that Ctrl+C copies it
    copied.textContent = done ? 'Copied' : 'Selected; press Ctrl+C';
    setTimeout(() => { copied.textContent = ''; }, 4000);
  } });
  const log = el('pre', { class: 'lr-job-log', tabindex: '0', 'aria-label': 'The end of the log' });
  const confirm = createConfirm({ label: 'Delete this job?', yes: 'Delete',
    act: async () => { confirm.hide(); start('delete'); },
    opener: () => buttons.querySelector('[data-key="delete"]') });
  const node = el('div', {}, error, refused.node, el('div', { class: 'lr-job-does' }, link, buttons), confirm.node,
    facts,
    el('div', { class: 'lr-job-part' }, el('h4', { text: 'Command' }), copy, copied), command,
    el('div', { class: 'lr-job-part' }, el('h4', { text: 'Log' })), log);

  function drawButtons(names) {
    const focused = buttons.contains(document.activeElement);
    const run = (name) => (name === 'delete'
      ? confirm.ask('Remove this job and its log from the list? Its results stay.') : start(name));
    replaceIfChanged(buttons, names, () => actionButtons(names, run));
    if (!names.includes('delete')) confirm.hide();
    if (!focused || buttons.contains(document.activeElement)) return;
    /** @type {HTMLElement} */ (node.closest('li').querySelector('.lr-job-open')).focus();
  }
  function update(job) {
    error.hidden = !job.message || !['failed', 'interrupted'].includes(job.state);
    setText(error, job.message || '');
    drawButtons(Object.keys(ACTIONS).filter((name) => job.actions.includes(name) && !QUICK.includes(name)));
    const result = resultLink(job);
    link.hidden = !result;
    if (result) { setText(link, result[0]); link.setAttribute('href', result[1]); }
    const times = [['Queued', job.created], ['Started', job.started], ['Ended', job.ended]];
    const values = Object.entries({ ...job.numbers, ...job.result }).filter(([, value]) => typeof value !== 'object');
    const attempt = job.attempt > 1 ? [['Attempt', String(job.attempt)]] : [];
    replaceIfChanged(facts, [times, attempt, values], () => termsOf([
      ...times.filter(([, at]) => at).map(([name, at]) => [name, timeNode(at)]), ...attempt,
      ...values.map(([name, value]) => [fieldName(name), formatValue(value, name)]),
    ]));
    setText(command, job.command);
  }
  return { node, update, fail: refused.show,
    busy(on) { buttons.querySelectorAll('button').forEach((b) => { b.disabled = on; }); },
    // It follows the end while the end is in sight.
    log(text) {
      if (log.textContent === (text || NO_LOG)) return;
      const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
      log.textContent = text || NO_LOG;
      if (follows) log.scrollTop = log.scrollHeight;
    } };
}
