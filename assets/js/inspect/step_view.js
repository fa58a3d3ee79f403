// @ts-check
// One step: the expert, the amateur, the contrastive target and, where there is one, the tuned expert as bars over the
// same tokens.
import { el, muted, termsOf } from '../shared/dom.js';
import { PAPER } from '../shared/engine_data.js';
import { formatNats, formatPercent, formatSigned, tokenLabel, tokenName } from '../shared/format.js';
import { SAYS, capped, contrastiveTarget, isAbove, isSelected, klText, taught, trainingEffect } from './measures.js';
import { aloneSays } from './writer.js';

const ROWS = 10;
const NOT_STORED = 'The distributions of this step were not stored, because the two models hardly diverge here. ' +
  'A dataset built with the details of every step has them.';
const NOT_COMPARED = 'The tokenizers differ, and what the amateur gives to some plausible token of the expert is not ' +
  'known here, so there is no contrastive target and the step is never trained on.';
const UNREAD = 'nothing compared: the amateur’s context ends before this token, or what it gives to the text so far ' +
  'is not known';
const ROUNDING = 1e-6; // of the expert's mass; what is compared is more than this
const SPELLED = 'how the amateur’s tokens spell it';
const ALPHA_HELP = 'A token is plausible if the expert gives it at least α times the probability of its top-1 ' +
  'token. Only plausible tokens can be reinforced.';
const CAP_HELP = 'The largest log-ratio that counts in the target: with a cap, a token that the amateur all but ' +
  'rules out does not take everything. Off, as in the paper, at the right end.';
const MOST_CAP = 10; // nats; the slider's end, where there is no cap

const SELECT = 'Select a token, in the text or in the curve, to see what both models expected there.';
const NO_STEP = 'Once the expert writes, select any token to see what both models expected there, and what training ' +
  'would reinforce.';
const PULLS = 'Fine-tuning pulls the expert’s next-token distribution after this prefix towards these weights.';

// who: expert, amateur, target or tuned
export function probabilityBar(who, p, plausible = true) {
  return el('div', { class: 'lr-bar lr-' + who },
    el('span', { class: 'lr-track' }, el('i', { style: 'width:' + (p * 100).toFixed(2) + '%' })),
    el('span', { class: 'lr-value', text: plausible ? formatPercent(p) : '–' }));
}

function tableRow(row, step, branch) {
  const taken = row.id === step.token_id, can = !taken && branch;
  const go = el('button', { class: 'lr-branch', disabled: !can, text: taken ? 'taken' : '↳ go',
    'aria-label': (taken ? 'taken: ' : '↳ go: ') + 'Continue from here with ' + tokenName(row.text),
    title: taken ? 'This is the token that was taken' : 'Continue from here with this token',
    onclick: () => { if (can) branch(step.index, row.id); } });
  const bars = [['expert', row.e], ['amateur', row.a], ['target', row.c], ['tuned', row.t]].filter(([, p]) =>
    p !== undefined);
  return el('li', { class: 'lr-row' + (row.plausible ? '' : ' lr-masked') + (taken ? ' lr-taken' : '') },
    el('span', { class: 'lr-label', title: 'token ' + row.id, text: tokenLabel(row.text) }, row.spelled
      ? el('small', { class: 'lr-spelled', title: SPELLED, text: ' ' + row.spelled }) : ''),
    el('div', { class: 'lr-bars' }, ...bars.map(([who, p]) =>
      probabilityBar(who, p, who !== 'target' || row.plausible))),
    el('span', { class: 'lr-contribution', title: 'log-ratio: log πE − log πA',
      text: formatSigned(row.ratio, 2) }),
    el('span', { class: 'lr-contribution', text: formatSigned(row.part),
      title: 'contribution of this token to the KL: πE · (log πE − log πA)' }),
    branch || taken ? go : el('span'));
}

const ORDERS = { expert: 'e', amateur: 'a', target: 'c' }; // of the rows, by whose probability
const favourite = (rows, key) => rows.reduce((best, row) => (row[key] > best[key] ? row : best), rows[0]);

function rowsOf(step, details, { alpha, cap }, order) {
  const { logE, logA, plausible, weights } = contrastiveTarget(details.candidates, alpha, cap);
  const free = contrastiveTarget(details.candidates, alpha).weights;
  const logT = details.candidates.tuned_logprobs;
  const all = details.candidates.ids.map((id, i) => {
    const t = logT && Math.exp(logT[i] ?? -Infinity);
    const e = Math.exp(logE[i]), a = Math.exp(logA[i]), ratio = logE[i] - logA[i];
    const text = details.tokens[id] === undefined ? '[' + id + ']' : details.tokens[id];
    const spelled = (details.spelled?.[id] || []).map(tokenLabel).join('·'), part = e > 0 ? e * ratio : 0;
    return { id, text, spelled, e, a, t, c: weights[i], free: free[i], plausible: plausible[i], ratio, part };
  });
  const largest = (row) => Math.max(row.e, row.a, row.c, row.t || 0);
  const listed = new Set([...all].sort((x, y) => largest(y) - largest(x)).slice(0, ROWS));
  for (const key of Object.values(ORDERS)) listed.add(favourite(all, key)); // however flat the distributions are
  const rows = all.filter((row) => listed.has(row) || row.id === step.token_id), key = ORDERS[order];
  return { all, order, rows: order === 'expert' ? rows : [...rows].sort((x, y) => y[key] - x[key]) };
}

function trainingRow(run, step, all) {
  const inside = all.filter((row) => row.plausible && row.c > 0);
  return { problem_id: run.problem_id, step: step.index, prefix_tokens: run.prompt_tokens + step.index,
    tokens: inside.map((r) => r.text), token_ids: inside.map((r) => r.id),
    weights: inside.map((r) => Number(r.c.toPrecision(6))), kl_divergence: step.kl };
}

const inNats = (x) => formatNats(x) + (typeof x === 'number' ? ' nats' : '');
const divergence = (step, key) => inNats(step[key] ?? Infinity);
// [name, value, explanation]
function factsOf(step) {
  const unknown = step.compared === undefined ? 'not shared' : 'not compared';
  const probability = (x) => (x === null ? unknown : formatPercent(Math.exp(x)));
  const given = (who) => {
    const rank = step[who + '_rank'];
    return probability(step[who + '_logprob']) + (rank === null ? '' : ' (rank ' + rank.toLocaleString('en') + ')');
  };
  const of = (amateurs) => (isUnread(step) ? unknown : amateurs);
  const reverse = 'KL(tuned expert ‖ expert); the other way round it is ' + divergence(step, 'tuned_reverse_kl');
  return [
    ['Expert gave the token', given('expert')],
    ['Amateur gave it', given('amateur')],
    ['Entropy, expert', inNats(step.expert_entropy), SAYS.expert_entropy],
    ['Entropy, amateur', of(inNats(step.amateur_entropy)), SAYS.amateur_entropy],
    ['Reverse KL', of(divergence(step, 'reverse_kl')), 'KL(amateur ‖ expert)'],
    ['Jensen–Shannon', of(inNats(step.js)), SAYS.js],
    ...(step.tuned_kl === undefined ? [] : [['Tuned expert gives it', given('tuned')],
      ['Training moved', divergence(step, 'tuned_kl'), reverse]])];
}

/** Whether the amateur could not be compared with the expert at a step. */
const isUnread = (step) => step.compared < ROUNDING; // never where it is undefined, the tokenizers being the same
/** Why a step above beta of a pair across tokenizers has no distributions; at or below it, none may be stored. */
const whyNot = (step, beta) => (step.compared !== undefined && (isAbove(step, beta) || isUnread(step)) ? NOT_COMPARED
  : '');

/** Whether a step of a pair across tokenizers has no target. */
const hasNoTarget = (step) => step.compared !== undefined && !Number.isFinite(step.teaching);
/** Whether training uses a step, and why. */
function verdict(step, above, mark) {
  const is = above ? ' – above β' : ' – not above β';
  if (above && hasNoTarget(step)) return is + ', but without a target: never trained on.';
  if (mark === 'drop') return is + ', dropped by you: never trained on.';
  if (mark === 'keep') return is + ', kept by you: always trained on.';
  return is + (above ? ', selected for training.' : ', not selected.') + (mark === 'pin' ? ' Pinned by you.' : '');
}
// Every step has these: whether it is selected, and its measures.
function head(step, { above, selected, mark }, { move, stops = ['step above β', 'step above beta'] }) {
  const jump = (by, key, word) => {
    const text = by < 0 ? '‹ ' + key : key + ' ›';
    return el('button', { onclick: () => move(by), title: word + ' ' + stops[0] + ' (' + key + ')',
      'aria-label': text + ': ' + word + ' ' + stops[1], text });
  };
  return [
    el('div', { class: 'lr-step-head' },
      el('h3', {}, 'Step ' + step.index + ' ', el('code', { text: tokenLabel(step.text) }),
        step.whole ? ' part of “' + step.whole + '”' : ''),
      el('div', { class: 'lr-step-move' }, jump(-1, 'p', 'Previous'), jump(1, 'n', 'Next'))),
    el('p', { class: 'lr-verdict' + (selected && !hasNoTarget(step) ? ' lr-yes' : '') },
      el('b', { text: klText(step) + ' nats' }),
      step.compared === undefined ? '' : ' · ' + (isUnread(step) ? UNREAD
        : formatPercent(step.compared) + ' of the expert’s mass compared'),
      verdict(step, above, mark),
      step.agree ? '' : ' The two models prefer different tokens.'),
    aloneSays(step) ? el('p', { class: 'lr-alone', text: sentence(aloneSays(step)) }) : null,
    el('dl', { class: 'lr-facts' }, ...termsOf(factsOf(step), { class: 'lr-fact' })),
  ].filter(Boolean);
}
const sentence = (text, stop = '.') => text.replace(/^./, (first) => first.toUpperCase()) + stop;

/** What each would write, whatever is in sight below. */
function favourites(all) {
  const says = (name, key) => {
    const row = favourite(all, key);
    return el('span', { class: 'lr-' + name }, sentence(name, '') + ' ', el('code', { text: tokenLabel(row.text) }),
      ' ' + formatPercent(row[key]));
  };
  const each = Object.entries(ORDERS).map(([name, key]) => says(name, key));
  return el('p', { class: 'lr-favourites' }, 'Favourites: ', ...each);
}
/** In whose order the rows stand. */
function orderPicker(order, onOrder) {
  const button = (name) => el('button', { 'data-order': name, 'aria-pressed': String(name === order),
    title: 'Sort the tokens by the ' + name + '’s probability', text: sentence(name, ''),
    onclick: () => onOrder(name) });
  return el('div', { class: 'lr-order', role: 'group', 'aria-label': 'Order of the tokens' },
    el('span', { text: 'Order' }), ...Object.keys(ORDERS).map(button));
}

// Where the candidates were stored: the distributions and the training row.
function distributions(run, step, { all, rows, order }, { selected, open, cap, sliders, branch, onOrder }) {
  const tuned = rows[0].t !== undefined;
  const firstMasked = order === 'expert' ? rows.findIndex((row) => !row.plausible) : -1;
  const lines = rows.map((row) => tableRow(row, step, branch));
  if (firstMasked >= 0) lines.splice(firstMasked, 0, el('li', { class: 'lr-mask-line',
    text: 'α-mask: tokens below are too unlikely for the expert to be reinforced' }));
  const rest = (key) => formatPercent(Math.max(0, 1 - rows.reduce((sum, row) => sum + row[key], 0)));
  const part = (step.kl ?? Infinity) - rows.reduce((sum, row) => sum + row.part, 0);
  const others = 'All other tokens: expert ' + rest('e') + ', amateur ' + rest('a') +
    (tuned ? ', tuned ' + rest('t') : '') +
    (Number.isFinite(part) ? ', KL part ' + formatSigned(part) : '');
  const training = Object.entries(trainingRow(run, step, all)).map(([name, value]) => name + ': ' +
    JSON.stringify(value));
  const [teaches, how] = taught(all.filter((row) => row.plausible), step.teaching, selected);
  return [
    el('p', { class: 'lr-taught' }, el('b', { text: teaches }), how),
    tuned ? el('p', { class: 'lr-training-effect', text: trainingEffect(all, step.tuned_changed) }) : null,
    favourites(all), ...sliders,
    cap === null ? null : el('p', { class: 'lr-muted lr-capped', text: capped(all, cap) }),
    orderPicker(order, onOrder),
    el('div', { class: 'lr-key' },
      el('span', { class: 'lr-expert', text: 'Expert' }), el('span', { class: 'lr-amateur', text: 'Amateur' }),
      el('span', { class: 'lr-target', text: 'Contrastive target' }),
      tuned ? el('span', { class: 'lr-tuned', text: 'Tuned expert E′' }) : null),
    el('ol', { class: 'lr-rows' },
      el('li', { class: 'lr-row lr-head' },
        ...['token', 'probability', 'log-ratio', 'KL part', ''].map((text) => el('span', { text }))),
      ...lines, el('li', { class: 'lr-rest', text: others })),
    el('details', { class: 'lr-training', open },
      el('summary', { text: selected ? 'The training row' : 'The training row, if β were lower' }),
      muted(PULLS, 'p'),
      el('pre', { text: training.join('\n') }))].filter(Boolean);
}

/**
 * @typedef {object} StepActions
 * @property {(alpha: number) => void} alpha
 * @property {(cap: number | null) => void} [cap]
 * @property {(by: 1 | -1) => void} move to the next or previous step above β, or to another stop
 * @property {[string, string]} [stops] what these are called, to be seen and to be heard
 * @property {((step: number, token: number) => void) | null} branch
 */
export class StepView {
  /** @param {StepActions} actions */
  constructor(actions) {
    this.actions = actions;
    this.shown = null;
    this.order = 'expert';
    this.node = el('section', { class: 'lr-card lr-step', 'aria-label': 'The selected step' });
    this.alphaOut = el('output', { class: 'lr-number' });
    this.slider = el('input', { type: 'range', min: PAPER.alphaFloor, max: '1', step: '0.01', value: PAPER.alpha,
      'aria-label': 'Alpha, the plausibility threshold', oninput: () => actions.alpha(Number(this.slider.value)) });
    this.alphaRow = el('label', { class: 'lr-slider', title: ALPHA_HELP }, el('span', { text: 'α mask' }),
      this.slider, this.alphaOut);
    this.capOut = el('output', { class: 'lr-number' });
    const capNow = () => (Number(this.capSlider.value) < MOST_CAP ? Number(this.capSlider.value) : null);
    this.capSlider = el('input', { type: 'range', min: '0.1', max: MOST_CAP, step: '0.1', value: MOST_CAP,
      'aria-label': 'Cap on the log-ratio, in nats', oninput: () => actions.cap(capNow()) });
    this.capRow = el('label', { class: 'lr-slider', title: CAP_HELP }, el('span', { text: 'cap' }), this.capSlider,
      this.capOut);
    this.empty(false);
  }
  empty(hasSteps) {
    this.shown = null;
    this.ready(); // an answer on its way is no longer wanted
    this.node.replaceChildren(el('h3', { text: 'Step view' }), muted(hasSteps ? SELECT : NO_STEP, 'p'));
  }
  /** @param {{ alpha: number, beta: number, cap?: number | null }} thresholds */
  show(run, step, details, thresholds, mark) {
    const { alpha, beta, cap = null } = thresholds, { node, slider, alphaRow, capSlider, capRow, order } = this;
    const { branch, cap: setCap } = this.actions, scroll = node.scrollTop;
    const sliders = setCap ? [alphaRow, capRow] : [alphaRow];
    const open = node.querySelector('details')?.open, focused = sliders.map((row) => row.querySelector('input'))
      .find((one) => one === document.activeElement);
    const onOrder = (now) => {
      this.order = now;
      this.show(run, step, details, thresholds, mark);
      /** @type {HTMLElement | null} */ (node.querySelector('[data-order="' + now + '"]'))?.focus();
    };
    const above = isAbove(step, beta), selected = isSelected(step, beta, mark);
    this.shown = step.index;
    slider.value = String(alpha);
    this.alphaOut.textContent = alpha.toFixed(2);
    capSlider.value = String(cap ?? MOST_CAP);
    this.capOut.textContent = cap === null ? 'off' : cap.toFixed(1);
    capSlider.setAttribute('aria-valuetext', cap === null ? 'off' : cap + ' nats');
    const rows = () => rowsOf(step, details, { alpha, cap }, order);
    node.replaceChildren(...head(step, { above, selected, mark }, this.actions), ...(details.candidates
      ? distributions(run, step, rows(), { selected, open, cap, sliders, branch, onOrder })
      : [el('p', { class: 'lr-muted lr-unstored', text: whyNot(step, beta) || details.why || NOT_STORED })]));
    node.scrollTop = scroll;
    if (focused) focused.focus();
  }
  ready() { this.node.removeAttribute('aria-busy'); }
  wait(i) { if (this.shown !== i) this.node.setAttribute('aria-busy', 'true'); }
}
