// @ts-check
// The states of a job, its actions, and where its result is shown.
import { el, svg } from '../shared/dom.js';

// The states of a job. Each has a word, a sign (an SVG path) and a colour; the signs differ without it, too.
export const STATES = {
  queued: { word: 'Queued', sign: 'M8 4.5V8l2.5 1.5' },
  running: { word: 'Running', sign: 'M6.3 5.2v5.6L11 8z' },
  stopping: { word: 'Stopping', sign: 'M5.8 5.8h4.4v4.4H5.8z' },
  succeeded: { word: 'Succeeded', sign: 'M4.8 8.3l2.2 2.2 4.3-4.7' },
  failed: { word: 'Failed', sign: 'M5.5 5.5l5 5M10.5 5.5l-5 5' },
  cancelled: { word: 'Cancelled', sign: 'M4.6 8h6.8' },
  interrupted: { word: 'Interrupted', sign: 'M8 4.4v4.4M8 11.2v.4' },
};

export function stateSign(state) {
  return svg('svg', { viewBox: '0 0 16 16', 'aria-hidden': 'true', class: 'lr-sign' },
    svg('circle', { cx: 8, cy: 8, r: 7 }), svg('path', { d: (STATES[state] || STATES.queued).sign }));
}
export const stateName = (state) => STATES[state]?.word || state;

export const ACTIONS = {
  first: { says: 'To the front', doing: 'Moving …', title: 'Next in the queue' },
  up: { says: 'Move up', doing: 'Moving …', title: 'Ahead of the job before it' },
  down: { says: 'Move down', doing: 'Moving …', title: 'Behind the job after it' },
  keep: { says: 'Stop and keep', doing: 'Stopping; the results so far are saved …',
    title: 'Ends at the next checkpoint, as succeeded, with its results so far' },
  cancel: { says: 'Cancel', doing: 'Stopping …', title: 'Ends within ten seconds; files on disk stay' },
  resume: { says: 'Resume', doing: 'Queueing …', title: 'Resumes where it stopped' },
  retry: { says: 'Run again', doing: 'Queueing a new job …',
    title: 'A new job with the same settings, from the start, in a folder of its own' },
  delete: { says: 'Delete …', doing: 'Deleting …', title: 'Removes this job and its log from the list' },
};

/** @param {string[]} names of actions @param {(name: string) => void} act */
export const actionButtons = (names, act) => names.map((name) => el('button', { 'data-key': name,
  title: ACTIONS[name].title, text: ACTIONS[name].says, onclick: () => act(name) }));

/** The actions on a job that waits or runs: in its line, without opening it. */
export const QUICK = ['first', 'up', 'down', 'keep', 'cancel'];

// The page of a job's result: [text, address], or null.
const RESULTS = { finetune: ['Open the run', 'finetune', 'run'], evaluate: ['Open the evaluation', 'evaluate', 'run'],
  experiment: ['Open the experiment', 'improve', 'run'] };
for (const verb of ['sample', 'score', 'compare-amateurs', 'import', 'pull']) {
  RESULTS[verb] = ['Open the dataset', 'datasets', 'dataset'];
}
export function resultLink(job) {
  const [text, tab, name] = RESULTS[job.verb] || [];
  if (!text || !job.made || !document.getElementById('lr-tab-' + tab + '-button')) return null;
  return [text, '?' + new URLSearchParams({ tab, [name]: job.run })];
}
