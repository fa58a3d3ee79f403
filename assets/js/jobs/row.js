// @ts-check
// One job of the list: a line that can be opened. `update` changes its parts in place, so that focus and selection
// stay.
import { createErrorBox, el, replaceIfChanged, setText } from '../shared/dom.js';
import {
  formatDuration, formatProgress, formatRate, formatRemaining, formatValue, plural, timeNode,
} from '../shared/format.js';
import { createJobDetails } from './details.js';
import { ACTIONS, QUICK, actionButtons, stateName, stateSign } from './states.js';

function queuePosition(n) { return n === 1 ? 'next in the queue' : plural(n - 1, 'job') + ' before it'; }

// The line under the title: the job's status, its place in the queue, or how it ended.
function sentence(job) {
  if (job.state === 'queued') return queuePosition(job.position || 1);
  const where = job.host ? ' · runs on ' + job.host : '';
  if (job.state === 'stopping') return where ? 'Stopping' + where : 'Stopping; ends within ten seconds';
  return job.state === 'running' ? job.status + where : job.message;
}

export class JobRow {
  /**
   * @param {string} id
   * @param {{ toggle: (id: string) => void, act: (id: string, action: string) => Promise<string> }} host
   */
  constructor(id, host) {
    this.id = id;
    this.host = host;
    this.body = el('div', { class: 'lr-job-body', id: 'lr-job-' + id, hidden: true });
    this.state = el('span', { class: 'lr-job-state' });
    this.title = el('span', { class: 'lr-job-title' });
    this.button = el('button', { class: 'lr-job-open', 'aria-expanded': 'false',
      'aria-controls': this.body.id, onclick: () => host.toggle(id) }, this.title);
    this.under = el('span', { class: 'lr-job-under lr-muted' });
    this.fill = el('i', {});
    this.percentage = el('span', { class: 'lr-job-percent' });
    this.track = el('div', { class: 'lr-job-track', role: 'progressbar', 'aria-valuemin': '0', 'aria-valuemax': '100' },
      this.fill);
    this.bar = el('div', { class: 'lr-job-progress' }, this.track, this.percentage);
    this.counted = el('span', {});
    this.rate = el('span', { class: 'lr-muted' });
    this.left = el('span', {});
    this.when = el('span', { class: 'lr-muted' });
    this.quick = el('div', { class: 'lr-job-quick', role: 'group', hidden: true });
    this.refused = createErrorBox();
    this.node = el('li', { class: 'lr-job', 'data-id': id },
      el('div', { class: 'lr-job-head' }, this.state, this.button, this.under, this.bar,
        el('div', { class: 'lr-job-counted' }, this.counted, this.rate),
        el('div', { class: 'lr-job-when' }, this.left, this.when), this.quick), this.refused.node, this.body);
    /** @type {any} the job as the server has it */ this.job = null;
    this.pending = ''; // a sentence while an action is on its way
    /** @type {ReturnType<typeof createJobDetails> | null} */ this.details = null;
  }

  update(job) {
    if (this.job && (this.job.state !== job.state || this.job.position !== job.position)) this.pending = '';
    this.job = job;
    if (this.node.dataset.state !== job.state) {
      this.node.dataset.state = job.state;
      this.state.replaceChildren(stateSign(job.state), el('span', { text: stateName(job.state) }));
    }
    setText(this.title, job.title);
    setText(this.under, this.pending || sentence(job));
    this.drawProgress(job);
    this.drawTimes(job);
    this.drawQuick(job);
  }
  drawQuick({ title, actions }) {
    const names = QUICK.filter((name) => actions.includes(name)), { quick } = this;
    const focused = quick.contains(document.activeElement);
    quick.hidden = !names.length;
    quick.setAttribute('aria-label', 'Actions on ' + title);
    replaceIfChanged(quick, names, () => actionButtons(names, (name) => this.start(name)));
    if (focused && !quick.contains(document.activeElement)) this.focus();
  }
  drawProgress({ done, total, fraction, state, title }) {
    const waits = state === 'queued';
    this.bar.hidden = !Number.isFinite(fraction) || waits || state === 'succeeded';
    if (!this.bar.hidden) {
      this.fill.style.width = Math.min(100, fraction * 100).toFixed(2) + '%';
      this.track.setAttribute('aria-valuenow', String(Math.floor(fraction * 100)));
      this.track.setAttribute('aria-label', 'Progress of ' + title);
      setText(this.percentage, formatProgress(fraction));
    }
    const of = Number.isFinite(total) ? ' of ' + formatValue(total) : '';
    setText(this.counted, Number.isFinite(done) && !waits ? formatValue(done) + of : '');
  }
  drawTimes(job) {
    const { when } = this, going = job.state === 'running' || job.state === 'stopping', at = job.ended || job.created;
    const took = Number.isFinite(job.elapsed) ? formatDuration(job.elapsed) : '';
    const remains = job.eta >= 1 && job.state === 'running' ? formatRemaining(job.eta) : '';
    setText(this.rate, going ? formatRate(job.rate) : '');
    setText(this.left, going ? remains : took && job.ended ? 'took ' + took : '');
    if (going) setText(when, took ? took + ' so far' : '');
    else if (at && when.dataset.at !== String(at)) when.replaceChildren(job.ended ? '' : 'queued ', timeNode(at));
    when.dataset.at = going ? '' : String(at);
  }
  focus() { this.button.focus(); }
  /** An open row has details, which come with every answer. */
  open(on) {
    if (on === !this.body.hidden) return;
    this.body.hidden = !on;
    this.button.setAttribute('aria-expanded', String(on));
    this.node.classList.toggle('lr-opened', on);
    this.details = on ? createJobDetails(this.id, (action) => this.start(action)) : null;
    this.body.replaceChildren(...(this.details ? [this.details.node] : []));
  }
  show(job, log) {
    this.details.update(job);
    if (log !== undefined) this.details.log(log);
  }
  async start(action) {
    this.pending = ACTIONS[action].doing;
    setText(this.under, this.pending);
    const before = this.details, busy = (on) => {
      before?.busy(on);
      this.quick.querySelectorAll('button').forEach((button) => { button.disabled = on; });
    };
    busy(true);
    const message = await this.host.act(this.id, action);
    const stops = ['keep', 'cancel'].includes(action) && ['running', 'stopping'].includes(this.job.state);
    if (message || !stops) this.pending = ''; // done, or refused
    setText(this.under, this.pending || sentence(this.job));
    busy(false);
    (before ? before.fail : this.refused.show)(message);
    const focused = document.activeElement;
    if (this.node.isConnected && (!focused || focused === document.body)) this.focus();
  }
}
