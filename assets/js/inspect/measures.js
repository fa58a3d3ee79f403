// @ts-check
// The measures that colour the tokens, and what the browser computes from a step's candidates. MEASURES and PAPER come
// from the engine's measures.py and paper.py. In a step, null stands for an infinite number.
import { MEASURES, PAPER } from '../shared/engine_data.js';
import { clamp, formatNats, formatPercent, tokenLabel } from '../shared/format.js';

export const METRICS = MEASURES.filter((m) => m.full).map((m) => (
  { ...m, of: m.key === 'ratio' ? logRatio : (step) => step[m.key] ?? (m.target ? 0 : Infinity) }));
/**
 * The KL of each further amateur that read along, as measures that colour the tokens.
 * @param {string[]} refs @param {boolean[]} across which of them have another tokenizer than the expert
 */
export const otherMetrics = (refs, across = []) => refs.map((ref, i) => ({ ...METRICS[0], key: 'other_kl_' + (i + 1),
  name: 'KL(expert ‖ ' + readerName(ref) + ')' + (across[i] ? ', at least' : ''), reader: readerName(ref),
  least: !!across[i],
  of: (step) => step['other_kl_' + (i + 1)] ?? Infinity }));
/** The end of a model's reference. */
const readerName = (ref) => ref.split(/[/\\]/).filter((part) => part && part !== 'model').pop() || ref;
export const SAYS = Object.fromEntries(MEASURES.map((m) => [m.key, m.says]));

function logRatio({ expert_logprob: e, amateur_logprob: a }) {
  return Math.max(0, (e ?? 0) - (a ?? (e === null ? 0 : -Infinity)));
}
/** KL of a step; of a pair across tokenizers it is a lower bound. */
export const klText = ({ kl, compared }) => 'KL ' + (compared === undefined ? '' : '≥ ') + formatNats(kl ?? Infinity);
/** What was compared at the steps of a pair across tokenizers. @param {number[]} shares of the expert's probability */
export const comparedSays = (shares) => 'the tokenizers differ: KL is a lower bound, ' +
  formatPercent(shares.reduce((sum, share) => sum + share, 0) / shares.length) + ' of the expert’s mass compared';
export const isAbove = (step, beta) => (step.kl ?? Infinity) > beta;

// Depth of the colour, from 0 to 1. The square root tells the many small values apart.
export function shade(metric, step) {
  return Math.sqrt(clamp(metric.of(step) / metric.full, 0, 1));
}

// The same definitions as lightreasoner/scoring/divergence.py, on the candidates that came with the step.
/** cap: the largest log ratio that counts, in nats; null: none. */
export function contrastiveTarget(candidates, alpha, cap = null) {
  const logE = candidates.expert_logprobs.map((x) => x ?? -Infinity);
  const logA = candidates.amateur_logprobs.map((x) => x ?? -Infinity);
  const bound = Math.max(...logE) + Math.log(alpha) - PAPER.tie;
  const plausible = logE.map((x) => x >= bound && x > -Infinity);
  const ratio = logE.map((x, i) => (plausible[i] ? x - logA[i] : -Infinity));
  const excluded = cap === null && ratio.some((r) => r === Infinity); // the amateur rules a plausible token out
  const score = cap !== null ? ratio.map((r) => Math.min(r, cap))
    : excluded ? logE.map((x, i) => (ratio[i] === Infinity ? x : -Infinity)) : ratio;
  const top = Math.max(...score), weight = score.map((x) => Math.exp(x - top));
  const total = weight.reduce((a, b) => a + b, 0);
  return { logE, logA, plausible, weights: weight.map((w) => w / total) };
}

const stored = ({ candidates, plausible }) =>
  candidates || (plausible && { expert_logprobs: plausible[0], amateur_logprobs: plausible[1] });
/** KL(target ‖ expert) in nats, at any α; null where the step's distributions were not stored. */
export function teachingSignal(step, alpha, cap = null) {
  const known = stored(step);
  if (!known) return null;
  const { logE, weights } = contrastiveTarget(known, alpha, cap);
  return Math.max(0, weights.reduce((sum, w, i) => sum + (w > 0 ? w * (Math.log(w) - logE[i]) : 0), 0));
}
/**
 * The probability that the models and the target give the token that was taken; null for what is not known. They come
 * with the step: from its candidates in a record, else from its plausible set.
 * @returns {{ expert: number | null, amateur: number | null, target: number | null, plausible: boolean, says: string }}
 */
export function takenProbabilities(step, alpha, cap = null) {
  const { candidates, plausible: kept, expert_logprob: logE, amateur_logprob: logA } = step;
  const [expert, amateur] = [logE, logA].map((x) => (x === null || x === undefined ? null : Math.exp(x)));
  const set = stored(step);
  const isUnknown = step.compared !== undefined && logA === null; // the amateur's is known within wide bounds only
  if (!set) return { expert, amateur, target: null, plausible: false, says: step.compared === undefined
    ? 'The target was not stored here.' : 'No target: some plausible token could not be compared.' };
  const at = candidates ? candidates.ids.indexOf(step.token_id) // equal numbers have equal weights
    : kept[0].findIndex((x, i) => x === logE && (kept[1][i] === logA || isUnknown));
  const { plausible, weights } = contrastiveTarget(set, alpha, cap), inside = at >= 0 && plausible[at];
  return { expert, amateur, target: inside ? weights[at] : 0, plausible: inside,
    says: inside ? '' : 'Too unlikely for the expert to be reinforced.' };
}
const SHIFT = 0.005; // of probability; less is no change that is seen
/** Whether a cap changes the target of a step. */
export function isCapped(step, alpha, cap) {
  const known = stored(step);
  if (cap === null || !known) return false;
  const [free, capped] = [null, cap].map((one) => contrastiveTarget(known, alpha, one).weights);
  return free.some((weight, i) => Math.abs(weight - capped[i]) >= SHIFT);
}
// What the cap does to the target of one step, in a sentence. Rows: {text, c, free}, the probabilities in the target
// with the cap and without.
export function capped(rows, cap) {
  const most = rows.reduce((best, row) => (row.free - row.c > best.free - best.c ? row : best), rows[0]);
  const name = 'The cap of ' + cap + (cap === 1 ? ' nat' : ' nats');
  if (most.free - most.c < SHIFT) return name + ' changes nothing here.';
  return name + ' lowers the target on “' + tokenLabel(most.text) + '” from ' + formatPercent(most.free) +
    ' to ' + formatPercent(most.c) + '.';
}
const known = (step) => Number.isFinite(step.teaching);
export const teaches = (step) => known(step) && step.teaching >= PAPER.teaches;
export const teachesNothing = (step) => known(step) && step.teaching < PAPER.teaches;

/** Whether training uses a step. mark: the user's, of a dataset's step; "pin" is a bookmark and changes nothing. */
export const isSelected = (step, beta, mark) => mark === 'keep' || (mark !== 'drop' && isAbove(step, beta));

// What the target at this step would teach, in a sentence. Rows: {text, e, c}, the probabilities under the expert and
// in the target.
export function taught(rows, signal, selected) {
  const most = rows.reduce((best, row) => (row.c - row.e > best.c - best.e ? row : best), rows[0]);
  const move = 'expert ' + formatPercent(most.e) + ' → target ' + formatPercent(most.c) + ' on “' +
    tokenLabel(most.text) + '”';
  const nats = signal.toFixed(3) + ' nats';
  if (signal < PAPER.teaches) {
    return ['Teaches nothing', ': the target is what the expert expects already (' + move + ', ' + nats + ').'];
  }
  return [selected ? 'Teaches ' + nats : 'Would teach ' + nats, ': ' + move + '.'];
}

const CHANGE = 0.005; // of probability; a smaller change is not worth a sentence
// What training did to one step, in a sentence. Rows: {text, e, t}, the probabilities under the expert and the tuned
// one.
export function trainingEffect(rows, changed) {
  const quoted = (row) => '“' + tokenLabel(row.text) + '”';
  const most = (of) => rows.reduce((best, row) => (of(row) > of(best) ? row : best), rows[0]);
  const effect = (row) => quoted(row) + ' ' + times(row.t / row.e) + ' as likely here (' +
    formatPercent(row.e) + ' → ' + formatPercent(row.t) + ')';
  if (changed) {
    const before = most((row) => row.e), now = most((row) => row.t);
    return 'Training changed the top-1 token from ' + quoted(before) + ' to ' + quoted(now) + ': it made ' +
      effect(now) + '.';
  }
  const gained = most((row) => row.t - row.e), lost = most((row) => row.e - row.t);
  const row = gained.t - gained.e >= CHANGE ? gained : lost;
  if (Math.abs(row.t - row.e) < CHANGE) {
    return 'Training changed no token’s probability by more than half a percentage point here.';
  }
  return 'Training made ' + effect(row) + '.';
}
function times(ratio) {
  if (!(ratio < 1000)) return 'over 1,000 times';
  const digits = ratio >= 9.95 ? 0 : ratio >= 0.895 && ratio < 1.095 ? 2 : 1;
  return (ratio >= 0.095 ? ratio.toFixed(digits) : ratio.toPrecision(1)) + ' times';
}

// A tuned expert's name: its run's, or the end of its reference.
export function tunedName(tuned) {
  if (tuned.name) return tuned.name;
  const parts = tuned.tuned.split(/[/\\]/).filter(Boolean);
  return parts.length > 2 ? '…/' + parts.slice(-2).join('/') : tuned.tuned;
}
