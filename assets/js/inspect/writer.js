// @ts-check
// Who wrote the response: where both models of the pair did by contrast, how, and at which steps its token is not what
// one of them alone would have written.
import { el } from '../shared/dom.js';
import { plural, tokenName } from '../shared/format.js';

/** @typedef {{ alpha: number, beta: number, takeover: boolean, cap?: number }} Contrast */

export const isRewritten = ({ expert_choice: own, token_id: id }) => !!own && own.token_id !== id;
/** Whether a takeover put the expert's choice in place of the amateur's. */
export const isTakenOver = ({ amateur_choice: own, expert_choice: expert, token_id: id }) =>
  !!own && own.token_id !== id && expert.token_id === id;
export const isMarked = (step) => isRewritten(step) || isTakenOver(step);

const quoted = ({ text }) => '“' + tokenName(text) + '”';
/** What the models alone would have written at a step, or ''. */
export function aloneSays(step) {
  if (isRewritten(step)) return 'the expert alone would have written ' + quoted(step.expert_choice);
  if (!isTakenOver(step)) return '';
  return 'taken over from the expert; the amateur alone would have written ' + quoted(step.amateur_choice);
}

/** The counts of a response by contrast, or ''. */
export function countsOf(steps, contrast) {
  if (!contrast || !steps.length) return '';
  const rewritten = steps.filter(isRewritten).length, taken = steps.filter(isTakenOver).length;
  const share = (n) => ' (' + Math.round((100 * n) / steps.length) + ' %)';
  if (!contrast.takeover) return plural(rewritten, 'token') + ' changed by the contrast' + share(rewritten);
  return plural(taken, 'token') + ' taken over from the expert' + share(taken) + ' · at ' +
    plural(rewritten, 'step') + ' the expert alone would have written another';
}

/** @param {Contrast} contrast */
const numbers = ({ alpha, beta, takeover, cap }) => (takeover ? '' : 'α = ' + alpha + ' and ') +
  'β = ' + beta + (cap === undefined ? '' : ' and a cap of ' + cap + ' nats');
/** One line on a contrast: for pictures, and the beginning of the page's own. @param {Contrast} contrast */
export function writtenBy(contrast) {
  return contrast.takeover
    ? 'Takeover with ' + numbers(contrast) + ': the amateur writes, and where KL is above β the expert’s ' +
      'choice is taken in place of its own.'
    : 'Contrast with ' + numbers(contrast) + ': where KL is above β the contrastive target’s choice is ' +
      'taken, elsewhere the expert’s own.';
}
const other = (contrast) => (contrast.takeover ? 'by takeover' : 'by contrast');

/** The α and β that a run begins with. */
export function usualThresholds(contrast, paper) {
  return { alpha: contrast && !contrast.takeover ? contrast.alpha : paper.alpha,
    beta: contrast ? contrast.beta : paper.beta };
}

/**
 * The lines above a response: who wrote it, and that moved sliders do not change what was written.
 * @param {((run: string) => void) | undefined} compare shows the expert's own greedy response
 */
export function createWriterLine(compare) {
  const says = el('span', {}), note = el('span', { class: 'lr-muted' });
  const button = el('button', { class: 'lr-compare', text: 'Compare with greedy',
    title: 'The expert’s own greedy response to the same prompt, at the first step where the two differ' });
  const moved = el('p', { class: 'lr-moved', hidden: true });
  const node = el('div', { class: 'lr-written-by', role: 'status', hidden: true },
    el('p', {}, says, ' ', button, note), moved);
  let run = '';
  button.addEventListener('click', () => { if (compare) compare(run); });
  return { node,
    show({ run: id, contrast }, steps, ended) {
      run = id;
      node.hidden = !contrast;
      if (!contrast) return;
      const same = ended && !steps.some(isRewritten);
      says.textContent = 'Written by ' + writtenBy(contrast).replace(/^./, (first) => first.toLowerCase());
      button.hidden = !compare || !ended || same;
      note.textContent = same ? 'The expert alone would have written the same.' : '';
    },
    thresholds({ contrast }, alpha, beta, cap) {
      const target = contrast?.takeover ? {} : { alpha, cap: cap ?? undefined };
      const now = contrast && { ...contrast, ...target, beta };
      moved.hidden = !contrast || numbers(now) === numbers(contrast);
      moved.textContent = moved.hidden ? '' : 'The sliders now say ' + numbers(now) +
        '. This text stays as it was written; press Run for one ' + other(contrast) + ' with them.';
    } };
}

/** Whether an answer is right, as a sign that is read out. */
export const gradeSign = (right) => {
  const word = right ? 'right' : 'wrong';
  return el('span', { role: 'img', 'aria-label': word, title: word, text: right ? '✓' : '✗' });
};
/** A response's answer and whether it is right. */
export const judged = ({ extracted, right }) => (extracted ?? 'no answer') + (right ? ' ✓' : ' ✗');
/**
 * What a branch changed: the token, and the answer.
 * @param {any} run @param {any} step the forced one @param {{ replaced: string, graded?: any } | null} origin
 */
export function changedSays({ parent, graded }, step, origin) {
  if (!origin || !step) return '';
  const forced = parent.contrast ? '' : quoted(step) + ' in place of ' + quoted({ text: origin.replaced }) + '. ';
  const was = origin.graded && graded && judged(origin.graded), is = graded && judged(graded);
  if (!was) return forced;
  return forced + (was === is ? 'The answer is still ' + is : 'The answer was ' + was + ', now ' + is) + '. ';
}

/** Where a run comes from that was made from another. @param {{ step: number, contrast?: Contrast }} parent */
export function originOf({ step, contrast }) {
  if (!contrast) return ['Branched at step ' + step + '. ', '← Back to the parent'];
  return ['The expert’s greedy response to the same prompt. From step ' + step + ' on it differs from the ' +
    'response ' + other(contrast) + '. ', '← Back to the response ' + other(contrast)];
}
