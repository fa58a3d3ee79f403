// @ts-check
// The arms of an experiment side by side: pass@1 before and after, the change with its paired interval, and the cost.
import { gridTable, pct, points } from '../evaluate/grid_table.js';
import { Chart } from '../shared/chart.js';
import { el, linkTo } from '../shared/dom.js';
import { formatCount, formatDuration, joined, plural } from '../shared/format.js';

export const armsChart = () => new Chart({ title: 'Change in pass@1', name: 'arms',
  says: 'Against the expert before fine-tuning, on the same problems; 95 % intervals' });

export const roundsChart = () => new Chart({ title: 'pass@1 over the rounds', name: 'rounds',
  says: 'On the same problems; 95 % intervals' });

const COLUMNS = [
  { title: 'Arm' },
  { title: 'Before', says: 'pass@1 of the expert before fine-tuning' },
  { title: 'After', says: 'pass@1 of the tuned expert' },
  { title: 'Change', says: 'In percentage points, on the same problems' },
  { title: '95 % interval', says: 'Of the change, paired problem by problem' },
  { title: 'Gained', says: 'Problems: wrong before, right after' },
  { title: 'Lost', says: 'Problems: right before, wrong after' },
  { title: 'Updates' },
  { title: 'Cost', says: 'Time to train and to evaluate' }];

const isBest = (arm, best) => arm.run === best && !arm.test;

function cells(arm, best) {
  const tone = !arm.significant ? null : arm.difference > 0 ? 'lr-better' : 'lr-worse';
  const cost = [arm.training_seconds, arm.evaluation_seconds].filter(Number.isFinite);
  const isMean = arm.tests > 1 && !arm.test, place = { tab: 'evaluate', run: arm.evaluation };
  const notes = joined([best && 'the best', !arm.whole && plural(arm.problems, 'problem') + ' so far']);
  return [
    el('span', {}, isMean ? el('b', { text: arm.label })
      : linkTo(place, arm.label, { 'data-key': 'arm-' + arm.evaluation }),
    notes && el('span', { class: 'lr-muted lr-aside', text: notes })),
    pct(arm.before), el('b', { text: pct(arm.pass_at_1) }), el('b', { class: tone, text: points(arm.difference) }),
    points(arm.low) + ' to ' + points(arm.high), formatCount(arm.gained), formatCount(arm.lost),
    Number.isFinite(arm.updates) ? formatCount(arm.updates) : '–',
    cost.length ? formatDuration(cost.reduce((sum, seconds) => sum + seconds, 0)) : '–'];
}

/** @param {any[]} arms @param {string | null} best the run of the arm that solves the most */
export const armsTable = (arms, best) => gridTable('All arms', COLUMNS, arms.map((arm) => ({
  class: isBest(arm, best) ? 'lr-is-base' : null, cells: cells(arm, isBest(arm, best)) })));

/** Problems whose verdict the best arm changed. @returns {Node[]} */
export function flipCards(flips, evaluation) {
  const side = (title, text) => el('div', {}, el('h5', { text: title }),
    el('pre', { class: 'lr-flip-text', tabindex: '0', text }));
  return flips.map((flip) => el('article', { class: 'lr-changed' },
    el('h4', { class: flip.gained ? 'lr-right' : 'lr-wrong', text: flip.gained ? '✓ Gained' : '✕ Lost' }),
    el('p', { class: 'lr-question', text: flip.question }),
    el('p', { class: 'lr-muted' }, 'Known answer: ', el('b', { text: flip.answer })),
    el('div', { class: 'lr-changed-sides' }, side('Before', flip.before), side('After', flip.after)))).concat(
    evaluation ? [linkTo({ tab: 'evaluate', run: evaluation }, 'All problems that changed sides')] : []);
}
