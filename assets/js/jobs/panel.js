// @ts-check
// The Jobs tab: queue and history, with one job opened. While the tab is seen it asks the server, once per second if
// jobs are active, and draws the answers; every user sees the same.
import { address } from '../shared/address.js';
import { createErrorBox, el, setText } from '../shared/dom.js';
import { formatTime } from '../shared/format.js';
import { createSwitch } from './notices.js';
import { JobRow } from './row.js';
import { stateName } from './states.js';

const EMPTY = ['A job is work that runs without the page, for example building a dataset. ' +
    'It continues when this tab is closed and resumes when the server restarts.',
  'Jobs come from the other tabs and from the command line. The first one will be listed here, with its progress, ' +
    'its log and the command that does the same.'];
const AWAY = 'The server does not answer. Running jobs continue; this list returns with the server.';
const PAGE = 50; // ended jobs that are listed at first, and that "Show older jobs" adds

function createList(title) {
  const items = el('ul', { class: 'lr-job-list', role: 'list', 'aria-label': title });
  return { items, node: el('div', { hidden: true }, el('h3', { text: title }), items) };
}

class Panel {
  /** @param {import('../shared/start.js').Gradio} gradio */
  constructor({ element, server }) {
    this.element = element;
    this.server = server;
    /** @type {Map<string, JobRow>} */ this.rows = new Map();
    this.limit = PAGE;
    this.opened = address.get('jobs').get('job');
    this.goto = !!this.opened; // bring the opened one into sight
    this.marks = {}; // of what the page has already
    this.past = [];
    this.timer = 0;
    this.asking = 0; // the number of the latest question
    /** @type {Map<string, string> | null} */ this.states = null;
    this.holder = el('p', { class: 'lr-jobs-holder lr-muted' });
    this.error = createErrorBox();
    this.missing = createErrorBox();
    this.announce = el('div', { class: 'lr-unseen', role: 'status', 'aria-live': 'polite' });
    this.empty = el('div', { class: 'lr-intro', hidden: true }, el('h3', { text: 'No jobs yet' }),
      ...EMPTY.map((text) => el('p', { text })));
    this.parts = { active: createList('Now'), past: createList('History') };
    this.more = el('button', { class: 'lr-jobs-more', text: 'Show older jobs', hidden: true,
      onclick: () => { this.limit += PAGE; this.look(); } });
    element.querySelector('.lr-jobs').append(el('section', { class: 'lr-card', 'aria-label': 'Jobs' }, this.holder,
      createSwitch(), this.error.node, this.missing.node, this.announce, this.empty, this.parts.active.node,
      this.parts.past.node, this.more));
  }

  fill(part, jobs) {
    part.node.hidden = !jobs.length;
    const focused = /** @type {HTMLElement} */ (document.activeElement);
    jobs.forEach((job, i) => this.place(part, job, i));
    // moving a node loses its focus
    if (focused && focused !== document.activeElement && focused.isConnected) focused.focus();
  }
  place(part, job, i) {
    if (!this.rows.has(job.id)) {
      this.rows.set(job.id, new JobRow(job.id, { toggle: (id) => this.toggle(id),
        act: (id, action) => this.act(id, action) }));
    }
    const row = this.rows.get(job.id), before = this.states && this.states.get(job.id);
    row.update(job);
    row.open(job.id === this.opened);
    if (part.items.children[i] !== row.node) {
      // moving a node scrolls it to its top
      const log = row.node.querySelector('.lr-job-log'), read = log && log.scrollTop;
      part.items.insertBefore(row.node, part.items.children[i] || null);
      if (log) log.scrollTop = read;
    }
    if (before && before !== job.state) {
      this.announce.textContent = job.title + ': ' + stateName(job.state).toLowerCase();
    }
  }
  draw(answer) {
    const { active, summary } = answer, other = answer.opened;
    this.past = answer.past || this.past;
    this.marks = answer.marks;
    // the opened one is listed even where the list ends before it
    const listed = !other || [...active, ...this.past].some((job) => job.id === other.id);
    const shown = listed ? this.past : [...this.past, other];
    this.fill(this.parts.active, active);
    this.fill(this.parts.past, shown);
    const all = [...active, ...shown], here = new Set(all.map((job) => job.id));
    for (const [id, row] of this.rows) if (!here.has(id)) { row.node.remove(); this.rows.delete(id); }
    this.states = new Map(all.map((job) => [job.id, job.state]));
    this.empty.hidden = all.length > 0;
    this.more.hidden = !answer.more;
    const { who, since } = summary.holder || {};
    setText(this.holder, who ? 'On the accelerator: ' + who + (since ? ', since ' + formatTime(since) : '')
      : all.length ? 'The accelerator is free' : '');
    this.missing.show(answer.missing);
    this.error.show(answer.trouble);
    if (other && other.id === this.opened) {
      this.rows.get(other.id).show(other, answer.log);
      if (this.goto) this.rows.get(other.id).node.scrollIntoView({ block: 'nearest' });
      this.goto = false;
    }
    window.dispatchEvent(new CustomEvent('lr-jobs', { detail: summary }));
  }
  show(id) {
    this.opened = id;
    delete this.marks.log;
    address.set('jobs', { job: id });
    for (const [key, row] of this.rows) row.open(key === id);
  }
  toggle(id) { this.show(this.opened === id ? null : id); this.look(); }

  // Answers can overtake each other: only the one to the latest question is drawn.
  async ask(question) {
    clearTimeout(this.timer);
    const mine = ++this.asking;
    const answer = (await question().catch(() => null)) || { error: AWAY }; // Gradio answers nothing when it is away
    if (mine !== this.asking) return answer;
    if (!answer.error) this.draw(answer);
    else if (!answer.refused) this.error.show(answer.error);
    const busy = answer.error || answer.active.length;
    this.timer = window.setTimeout(() => this.look(), busy ? 1000 : 5000);
    return answer;
  }
  async look() {
    if (document.hidden || address.shown !== 'jobs') return; // it asks again when it is seen
    await this.ask(() => this.server.look([this.limit, this.opened, this.marks]));
  }
  /** Returns a sentence if the action was refused. */
  async act(id, action) {
    const answer = await this.ask(async () => {
      const now = await this.server.act([id, action, this.limit, this.opened, this.marks]);
      if (now && now.made) this.show(now.made);
      return now && now.error ? { ...now, refused: true } : now;
    });
    if (answer.error) return answer.error;
    if (answer.made) {
      const row = this.rows.get(answer.made);
      row.focus();
      row.node.scrollIntoView({ block: 'nearest' });
    }
    if (action === 'delete') {
      this.show(null);
      const next = this.element.querySelector('.lr-job-open') || document.getElementById('lr-tab-jobs-button');
      /** @type {HTMLElement} */ (next).focus();
    }
    return '';
  }
}

export function mount(gradio) {
  const panel = new Panel(gradio), look = () => panel.look();
  address.watch('jobs', (params) => {
    panel.show(params.get('job'));
    panel.goto = true;
    look();
  });
  document.addEventListener('visibilitychange', look);
  window.addEventListener('lr-tab', look);
  look();
}
