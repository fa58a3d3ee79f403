// @ts-check
// One job of the list: a line that can be opened. `update` changes its parts in place, so that focus and selection
// stay.
import { el, setText } from '../shared/dom.js';
import {
  formatDuration, formatProgress, formatRate, formatRemaining, formatValue, plural, timeNode,
} from '../shared/format.js';
import { createJobDetails } from './details.js';
import { ACTIONS, STATES, stateSign } from './states.js';

function queuePosition(n) { return n === 1 ? 'next in the queue' : plural(n - 1, 'job') + ' before it'; }

// The line under the title: the job's status, its place in the queue, or how it ended.
function sentence(job) {
  if (job.state === 'queued') return queuePosition(job.position || 1);
  if (job.state === 'stopping') return 'Stopping; ends within ten seconds';
  return job.state === 'running' ? job.status : job.message;
}

export function createJobRow(id, { toggle, act }) {
  const body = el('div', { class: 'lr-job-body', id: 'lr-job-' + id, hidden: true });
  const state = el('span', { class: 'lr-job-state' }), title = el('span', { class: 'lr-job-title' });
  const button = el('button', { type: 'button', class: 'lr-job-open', 'aria-expanded': 'false',
    'aria-controls': body.id,
    onclick: () => toggle(id) }, title);
  const under = el('span', { class: 'lr-job-under lr-muted' });
  const fill = el('i', {}), percentage = el('span', { class: 'lr-job-percent' });
  const track = el('div', { class: 'lr-job-track', role: 'progressbar', 'aria-valuemin': '0', 'aria-valuemax': '100' },
    fill);
  const bar = el('div', { class: 'lr-job-progress' }, track, percentage);
  const counted = el('span', {}), rate = el('span', { class: 'lr-muted' });
  const left = el('span', {}), when = el('span', { class: 'lr-muted' });
  const node = el('li', { class: 'lr-job', 'data-id': id },
    el('div', { class: 'lr-job-head' }, state, button, under, bar,
    el('div', { class: 'lr-job-counted' }, counted, rate), el('div', { class: 'lr-job-when' }, left, when)), body);
  let view = null, pending = '', details = null;

  function update(job) {
    if (view && (view.state !== job.state || view.position !== job.position)) pending = '';
    view = job;
    if (node.dataset.state !== job.state) {
      node.dataset.state = job.state;
      state.replaceChildren(stateSign(job.state), el('span',
        { text: (STATES[job.state] || { word: job.state }).word }));
    }
    setText(title, job.title);
    setText(under, pending || sentence(job));
    drawProgress(job);
    drawTimes(job);
  }
  function drawProgress(job) {
    const { done, total, fraction } = job, waits = job.state === 'queued';
    bar.hidden = !Number.isFinite(fraction) || waits || job.state === 'succeeded';
    if (!bar.hidden) {
      fill.style.width = Math.min(100, fraction * 100).toFixed(2) + '%';
      track.setAttribute('aria-valuenow', Math.floor(fraction * 100));
      track.setAttribute('aria-label', 'Progress of ' + job.title);
      setText(percentage, formatProgress(fraction));
    }
    const of = Number.isFinite(total) ? ' of ' + formatValue(total) : '';
    setText(counted, Number.isFinite(done) && !waits ? formatValue(done) + of : '');
  }
  function drawTimes(job) {
    const going = job.state === 'running' || job.state === 'stopping', at = job.ended || job.created;
    const took = Number.isFinite(job.elapsed) ? formatDuration(job.elapsed) : '';
    const remains = job.eta >= 1 && job.state === 'running' ? formatRemaining(job.eta) : '';
    setText(rate, going ? formatRate(job.rate) : '');
    setText(left, going ? remains : took && job.ended ? 'took ' + took : '');
    if (going) setText(when, took ? took + ' so far' : '');
    else if (at && when.dataset.at !== String(at)) when.replaceChildren(job.ended ? '' : 'queued ', timeNode(at));
    when.dataset.at = going ? '' : String(at);
  }
  // An open row has details, which come with every answer.
  function open(on) {
    if (on === !body.hidden) return;
    body.hidden = !on;
    button.setAttribute('aria-expanded', String(on));
    node.classList.toggle('lr-opened', on);
    details = on ? createJobDetails(id, start) : null;
    body.replaceChildren(...(on ? [details.node] : []));
  }
  async function start(action) {
    pending = ACTIONS[action].doing;
    setText(under, pending);
    details.busy(true);
    const before = details, message = await act(id, action);
    const stops = ['keep', 'cancel'].includes(action) && ['running', 'stopping'].includes(view.state);
    if (message || !stops) pending = ''; // done, or refused
    if (view) setText(under, pending || sentence(view));
    before.busy(false);
    before.fail(message);
    const focused = document.activeElement;
    if (node.isConnected && (!focused || focused === document.body)) button.focus();
  }
  return { node, update, open, focus: () => button.focus(),
    details(job, log) { details.update(job); if (log !== undefined) details.log(log); } };
}
