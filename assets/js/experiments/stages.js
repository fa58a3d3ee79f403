// @ts-check
// The stages of an experiment as boxes in order, each of which opens its run on its own tab.
import { el, linkTo } from '../shared/dom.js';
import { formatCount, formatDuration, formatProgress, joined } from '../shared/format.js';
import { isActive, stateBadge } from '../shared/run_list.js';

/** Kind → [title, tab, name in the address, what its progress counts] */
const KINDS = {
  preview: ['Preview', 'evaluate', 'run', 'answers'],
  dataset: ['Sample', 'datasets', 'dataset', 'problems'],
  finetune: ['Fine-tune', 'finetune', 'run', 'updates'],
  evaluation: ['Evaluate', 'evaluate', 'run', 'answers'],
};

/**
 * @typedef {{ id: string, kind: string, round: number, arm: string | null, test: string | null, state: string,
 *   stopping: boolean, message: string, status: string, done: number | null, total: number | null,
 *   seconds: number | null, opens: boolean }} Stage
 */

/** How far a stage is, in a few words. @param {Stage} stage */
function progressText({ kind, state, status, done, total, seconds }) {
  if (state === 'waiting') return '';
  const known = Number.isFinite(done) && total, counted = known ? `${formatCount(done)} of ${formatCount(total)}` : '';
  const took = seconds >= 1 ? formatDuration(seconds) : '';
  if (state === 'running') return joined([counted && counted + ' ' + KINDS[kind][3], status]);
  const whole = known && done >= total ? formatCount(total) : counted;
  return joined([whole && whole + ' ' + KINDS[kind][3], took]);
}

/** @param {Stage} stage @param {boolean} active of the experiment */
function stageBox(stage, active) {
  const [title, tab, name] = KINDS[stage.kind], share = stage.total ? Math.min(1, stage.done / stage.total) : 0;
  const state = stage.state === 'succeeded' ? 'done' : stage.state;
  const badge = state === 'waiting' && !active ? el('span', { class: 'lr-badge lr-is-waiting', text: 'Not run' })
    : stateBadge(state, stage.stopping ? 'Stopping' : 'Running');
  const bar = stage.state === 'running' && el('div', { class: 'lr-progress', role: 'progressbar',
    'aria-label': title + (stage.arm ? ', ' + stage.arm : ''), 'aria-valuemin': '0', 'aria-valuemax': '100',
    'aria-valuenow': String(Math.round(100 * share)), title: formatProgress(share) },
  el('i', { style: `width:${100 * share}%` }));
  const named = stage.test ? title + ' · ' + stage.test : title;
  const inside = [el('span', { class: 'lr-stage-top' }, el('b', { text: named }), badge),
    el('span', { class: 'lr-muted lr-stage-says', text: progressText(stage) }),
    stage.message && el('span', { class: 'lr-stage-says lr-stage-wrong', text: stage.message })].filter(Boolean);
  const face = stage.opens ? linkTo({ tab, [name]: stage.id }, null, { class: 'lr-stage-face', 'data-key': stage.id })
    : el('div', { class: 'lr-stage-face' });
  face.append(...inside);
  return el('li', { class: 'lr-stage lr-stage-is-' + stage.state }, face, bar || null);
}

/** @param {Stage[]} stages @param {string} state of the experiment @param {number} rounds @returns {Node[]} */
export function stageGroups(stages, state, rounds) {
  /** @type {Map<string, Stage[]>} */ const groups = new Map();
  for (const stage of stages) {
    const key = (rounds > 1 ? `Round ${stage.round} · ` : '') + (stage.arm || 'Both models');
    groups.set(key, [...(groups.get(key) || []), stage]);
  }
  return [...groups].map(([name, members]) => el('section', { class: 'lr-stage-group', 'aria-label': name },
    el('h4', { text: name }), el('ol', {}, ...members.map((stage) => stageBox(stage, isActive(state))))));
}
