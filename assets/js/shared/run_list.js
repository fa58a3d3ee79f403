// @ts-check
// The list at the top of a tab: its datasets, fine-tuning runs or evaluations, newest first; and the badge of a state.
import { el, replaceIfChanged } from './dom.js';
import { formatTime, joined } from './format.js';

const RUN_STATES = { running: 'In progress', waiting: 'Waiting', done: 'Done', stopped: 'Stopped early',
  interrupted: 'Interrupted', failed: 'Failed', cancelled: 'Cancelled' };
export const isActive = (state) => state === 'running' || state === 'waiting';
// running: the word for a run in progress
export const stateWord = (state, running) => (state === 'running' && running) || RUN_STATES[state] || state;
export const stateBadge = (state, running) => el('span', { class: 'lr-badge lr-is-' + state,
  text: stateWord(state, running) });

/** The word for a run in progress, unless its job was asked to stop. */
export const runningWord = (job, word = '') => (job?.status?.startsWith('Stopping') ? 'Stopping' : word);

// title: the heading; aside: what stands beside it; facts(run): a line on a run; before(run): an element before its
// button; running: the word for a run in progress.
export function createRunList({ title, label = title, aside, facts, before = null, running = '', onOpen }) {
  const items = el('ul', { class: 'lr-runs' });
  const node = el('section', { class: 'lr-card lr-run-list', 'aria-label': label, hidden: true },
    el('div', { class: 'lr-top' }, el('h3', { text: title }), aside), items);
  let shown = null;
  // more: what before() depends on
  function show(runs, open, more) {
    node.hidden = !runs.length;
    replaceIfChanged(items, [runs, open, more], () => runs.map((run) => el('li', {}, (before && before(run)) || null,
      el('button', { class: 'lr-run-entry', 'data-id': run.id, 'data-key': run.id,
        'aria-current': run.id === open ? 'true' : null, onclick: () => onOpen(run.id) },
      el('span', { class: 'lr-run-name', text: run.name }), stateBadge(run.state, run.stopping ? 'Stopping' : running),
      el('span', { class: 'lr-run-facts', text: joined([...facts(run), formatTime(run.created)]) })))));
    if (open !== shown) items.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest' });
    shown = open;
  }
  return { node, show };
}
