// @ts-check
// The Jobs tab: queue and history, with one job opened. While the tab is seen it asks the server, once per second if
// jobs are active, and draws the answers; every user sees the same.
import { address } from '../shared/address.js';
import { createErrorBox, el, setText } from '../shared/dom.js';
import { formatTime } from '../shared/format.js';
import { createJobRow } from './row.js';
import { STATES } from './states.js';

const EMPTY = ['A job is work that runs without the page, for example building a dataset. ' +
    'It continues when this tab is closed and resumes when the server restarts.',
  'Jobs come from the other tabs and from the command line. The first one will be listed here, with its progress, ' +
    'its log and the command that does the same.'];
const AWAY = 'The server does not answer. Running jobs continue; this list returns with the server.';
const PAGE = 50; // ended jobs that are listed at first, and that "Show older jobs" adds

export function mount({ element, server }) {
  const rows = new Map();
  let limit = PAGE, opened = address.get('jobs').get('job'), marks = {}, past = [], timer = 0, asking = 0;
  let states = null, goto = !!opened;

  const holder = el('p', { class: 'lr-jobs-holder lr-muted' }), error = createErrorBox(), missing = createErrorBox();
  const announce = el('div', { class: 'lr-unseen', role: 'status', 'aria-live': 'polite' });
  const empty = el('div', { class: 'lr-intro', hidden: true }, el('h3', { text: 'No jobs yet' }),
    ...EMPTY.map((text) => el('p', { text })));
  const parts = { active: list('Now'), past: list('History') };
  const more = el('button', { type: 'button', class: 'lr-jobs-more', text: 'Show older jobs', hidden: true,
    onclick: () => { limit += PAGE; look(); } });
  element.querySelector('.lr-jobs').append(el('section', { class: 'lr-card', 'aria-label': 'Jobs' },
    holder, error.node, missing.node, announce, empty, parts.active.node, parts.past.node, more));

  function list(title) {
    const items = el('ul', { class: 'lr-job-list', role: 'list', 'aria-label': title });
    return { items, node: el('div', { hidden: true }, el('h3', { text: title }), items) };
  }
  function fill(part, jobs) {
    part.node.hidden = !jobs.length;
    const focused = document.activeElement;
    jobs.forEach((job, i) => {
      if (!rows.has(job.id)) rows.set(job.id, createJobRow(job.id, { toggle, act }));
      const row = rows.get(job.id), before = states && states.get(job.id);
      row.update(job);
      row.open(job.id === opened);
      if (part.items.children[i] !== row.node) {
        // moving a node scrolls it to its top
        const log = row.node.querySelector('.lr-job-log'), read = log && log.scrollTop;
        part.items.insertBefore(row.node, part.items.children[i] || null);
        if (log) log.scrollTop = read;
      }
      if (before && before !== job.state) {
        announce.textContent = job.title + ': ' + (STATES[job.state] || { word: job.state }).word.toLowerCase();
      }
    });
    // moving a node loses its focus
    if (focused && focused !== document.activeElement && focused.isConnected) focused.focus();
  }
  function draw(answer) {
    const { active, summary } = answer, other = answer.opened;
    past = answer.past || past;
    marks = answer.marks;
    // the opened one is listed even where the list ends before it
    const listed = !other || [...active, ...past].some((job) => job.id === other.id);
    const shown = listed ? past : [...past, other];
    fill(parts.active, active);
    fill(parts.past, shown);
    const all = [...active, ...shown], here = new Set(all.map((job) => job.id));
    for (const [id, row] of rows) if (!here.has(id)) { row.node.remove(); rows.delete(id); }
    states = new Map(all.map((job) => [job.id, job.state]));
    empty.hidden = all.length > 0;
    more.hidden = !answer.more;
    const { who, since } = summary.holder || {};
    setText(holder, who ? 'On the accelerator: ' + who + (since ? ', since ' + formatTime(since) : '')
      : all.length ? 'The accelerator is free' : '');
    missing.show(answer.missing);
    error.show(answer.trouble);
    if (other && other.id === opened) {
      rows.get(other.id).details(other, answer.log);
      if (goto) rows.get(other.id).node.scrollIntoView({ block: 'nearest' });
      goto = false;
    }
    window.dispatchEvent(new CustomEvent('lr-jobs', { detail: summary }));
  }
  function show(id) {
    opened = id;
    delete marks.log;
    address.set('jobs', { job: id });
    for (const [key, row] of rows) row.open(key === id);
  }
  function toggle(id) { show(opened === id ? null : id); look(); }

  // Answers can overtake each other: only the one to the latest question is drawn.
  async function ask(question) {
    clearTimeout(timer);
    const mine = ++asking;
    const answer = (await question().catch(() => null)) || { error: AWAY }; // Gradio answers nothing when it is away
    if (mine !== asking) return answer;
    if (!answer.error) draw(answer);
    else if (!answer.refused) error.show(answer.error);
    const busy = answer.error || answer.active.length;
    timer = setTimeout(look, busy ? 1000 : 5000);
    return answer;
  }
  async function look() {
    if (document.hidden || address.shown !== 'jobs') return; // it asks again when it is seen
    await ask(() => server.look([limit, opened, marks]));
  }
  // Returns a sentence if the action was refused.
  async function act(id, action) {
    const answer = await ask(async () => {
      const now = await server.act([id, action, limit, opened, marks]);
      if (now && now.made) show(now.made);
      return now && now.error ? { ...now, refused: true } : now;
    });
    if (answer.error) return answer.error;
    if (answer.made) { const row = rows.get(answer.made); row.focus(); row.node.scrollIntoView({ block: 'nearest' }); }
    if (action === 'delete') {
      show(null);
      (element.querySelector('.lr-job-open') || document.getElementById('lr-tab-jobs-button')).focus();
    }
    return '';
  }

  address.watch('jobs', (params) => { show(params.get('job')); goto = true; look(); });
  document.addEventListener('visibilitychange', look);
  window.addEventListener('lr-tab', look);
  look();
}
