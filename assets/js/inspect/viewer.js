// @ts-check
// The viewer of one run: text, curve and step view. It does not know where runs come from: `host` gives it details,
// exports and branches, on the page from the server, in an exported file from the file.
import { createErrorBox, download, el, labelled, optionsOf, setText } from '../shared/dom.js';
import { EXAMPLE, PAPER } from '../shared/engine_data.js';
import { clamp, formatCount, joined, plural } from '../shared/format.js';
import { createExportMenu, picture } from './exports.js';
import { wholeText } from './characters.js';
import { hasFormulas, showFormulas } from './formulas.js';
import { Heatmap, cue } from './heatmap.js';
import {
  METRICS, comparedSays, isAbove, isCapped, isSelected, otherMetrics, teaches, teachingSignal, tunedName,
} from './measures.js';
import { StepView } from './step_view.js';
import { TokenCard } from './token_card.js';
import { changedSays, countsOf, createWriterLine, gradeSign, originOf, usualThresholds } from './writer.js';

const BETA_HELP = 'A step is selected when its KL lies above β.';
const KEYS_HELP = '← → ↑ ↓ step by step · n / p next or previous above β · Home / End';
const WRITER_KEYS_HELP = ' · c / C next or previous token of the contrast’s own';
const FORMULAS_HELP = 'Shows LaTeX in the problem and the response as formulas; the tokens stay as they are';
const LOSS_HELP = 'Training starts from a loss of this: the mean of KL(target ‖ expert) over the selected steps.';
const EXAMPLE_HELP = 'A stored trace of the bundled pair, which comes with the software';
const MARKED = { drop: 'dropped', keep: 'kept', pin: 'pinned' };
const END_REASONS = { stop: 'The expert ended its turn', length: 'Cut off at the token limit',
  given: 'Your text, scored', stopped: 'Stopped', error: 'Failed' };

/**
 * @typedef {object} Host what a viewer is part of
 * @property {[string, string][]} kinds the exports that it offers, with a sentence on each
 * @property {(run: string, step: number) => Promise<any>} details a step's candidates and their texts
 * @property {(select: (step: number, focus: boolean) => void) => any} curve makes the curve below the text
 * @property {(kind: string, run: string, where: any) => Promise<string>} [export] saves a file; returns a message
 * @property {(run: string, step: number, token: number) => Promise<string>} [branch] returns an error's sentence
 * @property {(run: string) => void} [compare] shows the expert's greedy response beside one by contrast
 * @property {(run: string, step: number) => void} [open] opens another run
 * @property {(run: string) => Promise<any>} [origin] what a branch was made from
 * @property {(run: string, parent: string) => void} [beside] shows a run and its parent side by side
 * @property {(viewer: Viewer) => void} [ended]
 * @property {(where: { run: any, step: number, alpha: number, beta: number, cap: number | null,
 *   colour: string | null }) => void} [address]
 *   colour: the key of the metric that colours the tokens; null for the usual one
 * @property {(name: string, value: number) => void} [moved] a slider was moved, or a run brought its own α or β
 * @property {string} [idle] the status without a run
 * @property {{ title: string, sentences: string[] }} [intro]
 */

/** The elements of a viewer, and what the user changes with them. */
function layOut(root, host, { heat, curve, view, exportMenu, writerLine, onBeta, onMetric, onFormulas }) {
  const parts = { status: el('div', { class: 'lr-state', role: 'status', 'aria-live': 'polite' }),
    error: createErrorBox(), parent: el('div', { class: 'lr-parent', hidden: true }),
    tunedModel: el('div', { class: 'lr-tuned-model', hidden: true }),
    summary: el('div', { class: 'lr-summary', hidden: true }), grade: el('span', { class: 'lr-grade', role: 'status' }),
    diverging: el('span', {}), counts: el('div', { class: 'lr-counts' }),
    example: el('span', { class: 'lr-example', title: EXAMPLE_HELP, text: 'Example' }),
    betaOut: el('output', { class: 'lr-number' }), metricSelect: el('select', { 'aria-label': 'Colour the tokens by',
      onchange: () => onMetric(Number(parts.metricSelect.value)) }),
    betaSlider: el('input', { type: 'range', class: 'lr-beta', min: '0', max: '3', step: '0.01', value: PAPER.beta,
      'aria-label': 'Beta, the KL threshold in nats', oninput: () => onBeta(Number(parts.betaSlider.value)) }),
    metricSays: el('span', { class: 'lr-muted lr-metric-says' }), legendFull: el('span', {}),
    question: el('blockquote', { class: 'lr-question', hidden: true, tabindex: '0', 'aria-label': 'The problem' }),
    formulas: el('input', { type: 'checkbox', onchange: onFormulas }),
    reading: el('div', { class: 'lr-reading', hidden: true, tabindex: '0', role: 'group',
      'aria-label': 'The response with its formulas' }),
    prompt: el('details', { class: 'lr-prompt', hidden: true }),
    intro: host.intro ? el('div', { class: 'lr-intro' }, el('h3', { text: host.intro.title }),
      el('ol', {}, ...host.intro.sentences.map((text) => el('li', { text })))) : null };
  const formulaSwitch = el('label', { class: 'lr-formula-switch', hidden: true, title: FORMULAS_HELP }, parts.formulas,
    ' Read as formulas');
  const controls = el('div', { class: 'lr-controls' },
    el('label', { class: 'lr-slider', title: BETA_HELP }, el('span', { text: 'β threshold' }), parts.betaSlider,
      parts.betaOut),
    labelled('Colour', parts.metricSelect));
  const cues = { forcedCue: cue('forced', 'forced by you'),
    changedCue: cue('changed', 'training changed the top-1 token'),
    rewrittenCue: cue('rewritten', 'not what the expert alone would write'),
    takenOverCue: cue('taken-over', 'taken over from the expert') };
  const keys = el('div', { class: 'lr-keys lr-muted', text: KEYS_HELP });
  const legend = el('div', { class: 'lr-legend' }, el('span', { text: '0' }), el('i', {}), parts.legendFull,
    cue('above', 'KL above β'), cue('idle', 'teaches nothing'), cue('differs', 'top-1 differs'),
    ...Object.values(cues));
  const response = el('section', { class: 'lr-card lr-response', 'aria-label': 'The response' },
    el('div', { class: 'lr-top' }, parts.status, exportMenu.node), parts.error.node, parts.parent, parts.tunedModel,
    writerLine.node, parts.question, formulaSwitch, parts.summary, parts.reading,
    heat.node, legend, parts.intro, controls, parts.metricSays,
    parts.counts, curve.node, keys, parts.prompt);
  parts.summary.append(parts.example, parts.grade, parts.diverging);
  root.classList.add('lr');
  root.replaceChildren(el('div', { class: 'lr-viewer' }, response, view.node));
  return { ...parts, ...cues, formulaSwitch, keys, response };
}

export class Viewer {
  /** @param {HTMLElement} root @param {Host} host */
  constructor(root, host) {
    this.root = root;
    this.host = host;
    /** @type {any} */ this.run = null;
    /** @type {any[]} */ this.steps = [];
    this.metric = METRICS[0];
    this.alpha = PAPER.alpha;
    this.beta = PAPER.beta;
    /** @type {number | null} on the log-ratio of the target, in nats */ this.cap = null;
    this.current = -1;
    this.details = new Map();
    /** @type {Record<number, string>} the user's marks of a dataset's steps */ this.marks = {};
    this.asked = -1; // the step whose details were asked for last
    this.withTuned = false;
    /** @type {any[]} the measures of further amateurs */ this.others = [];
    const select = (step, focus) => this.select(step, focus);
    this.heat = new Heatmap(select);
    this.curve = host.curve(select);
    this.view = new StepView({ alpha: (value) => this.setAlpha(value), cap: (value) => this.setCap(value),
      move: (direction) => this.jump(direction),
      branch: host.branch ? (step, token) => this.branch(step, token) : null });
    this.writerLine = createWriterLine(host.compare);
    this.exportMenu = createExportMenu(host.kinds, (kind) => this.exportAs(kind));
    this.parts = layOut(root, host, { ...this, onBeta: (value) => this.setBeta(value),
      onMetric: (number) => this.colourBy(this.offered[number]), onFormulas: () => this.drawFormulas() });
    root.addEventListener('keydown', (event) => this.onKey(event));
    this.card = new TokenCard(root, (token) => {
      const step = this.steps[Number(token.dataset.index)];
      return step ? { step, alpha: this.alpha, cap: this.cap } : null;
    });
    this.card.follow(this.heat.node);
    this.offerMetrics(false);
    this.setStatus(host.idle || '', false);
    this.curve.show(this.steps, this.beta, '', []);
  }
  get count() { return this.steps.length; }

  // The effect of training is only offered where there is a tuned expert, and there it is the first choice.
  offerMetrics(tuned) {
    const { metricSelect, changedCue } = this.parts;
    const offered = this.offered = [METRICS[0], ...this.others, ...METRICS.slice(1).filter((m) => tuned || !m.tuned)];
    metricSelect.replaceChildren(...optionsOf(offered.map((m, i) => [i, m.name])));
    if (tuned !== this.withTuned && tuned) this.metric = METRICS.find((m) => m.tuned);
    if (!offered.includes(this.metric)) this.metric = METRICS[0];
    this.withTuned = tuned;
    metricSelect.value = String(offered.indexOf(this.metric));
    changedCue.hidden = !tuned;
    this.drawScale();
  }
  drawCounts() {
    const { counts, diverging, summary } = this.parts, { steps, beta } = this;
    counts.replaceChildren();
    summary.hidden = !steps.length;
    if (!steps.length) return;
    const above = steps.filter((s) => isAbove(s, beta)).length, differ = steps.filter((s) => !s.agree).length;
    const share = formatCount(above) + ' of ' + plural(steps.length, 'step');
    diverging.textContent = share + (above === 1 ? ' diverges' : ' diverge');
    counts.append(el('b', { text: share + ' above β' }), ' · ' +
      Math.round((100 * above) / steps.length) + ' % · ', ...this.teachingCounts(),
    plural(differ, 'top-1 disagreement'));
    const changed = steps.filter((s) => s.tuned_changed).length;
    if (this.run.lens) counts.append(' · training changed the top-1 token at ' + plural(changed, 'step'));
    for (const other of this.others) {
      const own = steps.filter((step) => other.of(step) > beta).length;
      counts.append(' · ' + other.reader + (other.least ? ': at least ' : ': ') + formatCount(own) +
        ' above β');
    }
    const written = countsOf(steps, this.run.contrast);
    if (written) counts.append(' · ' + written);
    const shares = steps.map((step) => step.compared).filter((share) => share !== undefined);
    if (shares.length) counts.append(' · ' + comparedSays(shares));
  }
  /** How many of the steps that training uses teach something, and the loss that training would start from. */
  teachingCounts() {
    const { marks } = this, of = (kind) => Object.values(marks).filter((mark) => mark === kind).length;
    const used = this.steps.filter((step, i) => isSelected(step, this.beta, marks[i]));
    const known = used.filter((step) => Number.isFinite(step.teaching)), n = known.filter(teaches).length;
    const lack = used.some((step) => step.compared !== undefined) ? ' without a target · ' : ' not stored · ';
    const mean = known.reduce((sum, step) => sum + step.teaching, 0) / known.length;
    const marked = ['drop', 'keep', 'pin'].filter(of).map((kind) => of(kind) + ' ' + MARKED[kind]);
    const changed = this.cap === null ? 0 : used.filter((step) => isCapped(step, this.alpha, this.cap)).length;
    return [this.cap !== null && 'the cap changes ' + plural(changed, 'target') + ' · ',
      known.length && el('b', { title: LOSS_HELP, text: formatCount(n) + (n === 1 ? ' teaches' : ' teach') }),
      known.length && ', ' + mean.toFixed(3) + ' nats on average · ',
      known.length < used.length && formatCount(used.length - known.length) + lack,
      marked.length && marked.join(', ') + ' · '].filter(Boolean);
  }
  drawScale() {
    const { betaOut, legendFull, metricSays } = this.parts, { name, full, says } = this.metric;
    betaOut.textContent = this.beta.toFixed(2);
    legendFull.textContent = full + (full === 1 ? ' nat' : ' nats') + ' and more';
    metricSays.textContent = name + ': ' + says;
  }
  /** @param {any} metric one of those that are offered */
  colourBy(metric) {
    this.metric = metric;
    this.parts.metricSelect.value = String(this.offered.indexOf(metric));
    this.repaint();
    this.writeAddress();
  }
  /** The same by its key, where this run offers it. */
  colourByKey(key) {
    const metric = this.offered.find((m) => m.key === key);
    if (metric && metric !== this.metric) this.colourBy(metric);
  }
  repaint() {
    this.heat.repaint(this.metric);
    this.drawScale();
  }
  setBeta(value) {
    this.beta = value;
    this.parts.betaSlider.value = String(value);
    this.heat.setBeta(value);
    this.curve.setBeta(value);
    this.drawCounts(); this.drawScale(); this.drawStep(); this.drawThresholds('beta', value);
  }
  setAlpha(value) { // a link may hold any
    this.alpha = clamp(value, PAPER.alphaFloor, 1);
    this.reweigh('alpha');
  }
  /** A link may hold anything; null: no cap. */
  setCap(value) {
    this.cap = value === null || !(value > 0) ? null : Math.min(value, 1000);
    this.reweigh('cap');
  }
  /** Other targets. @param {'alpha' | 'cap'} moved */
  reweigh(moved) {
    this.measure(this.steps);
    this.heat.repaint(this.metric);
    if (this.count) this.curve.grew();
    this.drawCounts(); this.drawStep(); this.drawThresholds(moved, this[moved]);
  }
  /** What depends on α and the cap. */
  measure(steps) { for (const step of steps) step.teaching = teachingSignal(step, this.alpha, this.cap); }
  /** The user's marks of the steps, which may have changed. */
  mark(marks) {
    this.marks = marks;
    this.drawCounts(); this.drawStep();
  }
  drawThresholds(moved, value) {
    if (this.run) this.writerLine.thresholds(this.run, this.alpha, this.beta, this.cap);
    if (this.host.moved) this.host.moved(moved, value);
    this.writeAddress();
  }
  writeAddress() {
    const { run, current: step, alpha, beta, cap, metric } = this;
    const usual = METRICS.find((m) => m.tuned === !!run?.lens), colour = metric === usual ? null : metric.key;
    if (this.host.address && run) this.host.address({ run, step, alpha, beta, cap, colour });
  }

  async drawStep() {
    const i = this.current, { view } = this;
    if (i < 0 || !this.steps[i]) { view.empty(this.steps.length > 0); return; }
    if (!this.details.has(i)) {
      view.wait(i);
      this.asked = i;
      const key = this.run.run, answer = await this.host.details(key, i);
      if (!this.run || this.run.run !== key) return;
      if (answer.error) {
        if (this.current === i) view.ready();
        this.fail(answer.error);
        return;
      }
      this.details.set(i, answer);
      if (this.asked !== i || this.current !== i) return; // a later selection is on its way
    }
    view.ready();
    view.show(this.run, this.steps[i], this.details.get(i), this, this.marks[i]);
  }
  select(i, focus) {
    if (!this.heat.select(i, focus)) return;
    this.current = i;
    this.drawStep();
    this.curve.select(i);
    this.writeAddress();
  }
  jump(direction) {
    const i = this.heat.nextAbove(direction);
    if (i >= 0) this.select(i, true);
  }
  onKey(event) {
    const { heat, current } = this;
    const moves = { ArrowRight: () => current + 1, ArrowLeft: () => current - 1, ArrowDown: () => heat.onLine(1),
      ArrowUp: () => heat.onLine(-1), Home: () => 0, End: () => this.count - 1, n: () => heat.nextAbove(1),
      p: () => heat.nextAbove(-1), c: () => heat.nextMarked(1), C: () => heat.nextMarked(-1),
      Enter: () => Math.max(0, current), ' ': () => Math.max(0, current) };
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in moves)) return;
    if (event.defaultPrevented || isTaken(event)) return;
    event.preventDefault();
    const i = moves[event.key]();
    if (i >= 0 && i < this.count) this.select(i, true);
  }

  setStatus(text, busy) {
    setText(this.parts.status, text);
    this.parts.status.classList.toggle('lr-busy', !!busy);
    this.heat.busy(!!busy);
  }
  fail(message) {
    this.parts.error.show(message);
    this.root.classList.toggle('lr-has-run', this.count > 0); // no empty curve below an error
  }

  begin(header) {
    const { error, intro, question, parent, grade, example, forcedCue } = this.parts;
    grade.replaceChildren();
    example.hidden = header.run !== EXAMPLE;
    this.run = header; this.steps = []; this.current = -1; this.details = new Map(); this.marks = {};
    this.takeThresholds(header);
    error.show('');
    if (intro) intro.hidden = example.hidden;
    question.hidden = !header.question;
    this.drawFormulas();
    this.heat.forced = header.parent && !header.parent.contrast ? header.parent.step : -1;
    forcedCue.hidden = this.heat.forced < 0;
    parent.hidden = !header.parent;
    if (header.parent) this.drawParent(null);
    this.drawTunedModel();
    this.drawWriter(false);
    this.drawPrompt();
    this.card.hide();
    this.takeOthers();
    this.heat.reset(); this.view.empty(false); this.exportMenu.enable(false); this.drawCounts();
    this.root.classList.add('lr-has-run');
  }
  /** Where the run comes from. origin: what was there before, once the server has told. */
  drawParent(origin) {
    const { parts: { parent }, run, host } = this, { id, step } = run.parent, [from, back] = originOf(run.parent);
    const button = (text, onclick) => el('button', { text, onclick });
    const beside = host.beside && run.ended ? button('Compare side by side', () => host.beside(run.run, id)) : '';
    parent.replaceChildren(from, changedSays(run, this.steps[step], origin), host.open
      ? button(back, () => host.open(id, step)) : '', ' ', beside);
  }
  /** A response by contrast is seen with the α and β that wrote it. */
  takeThresholds({ contrast }) {
    if (!contrast) return;
    Object.assign(this, usualThresholds(contrast, this), { cap: contrast.cap ?? null });
    this.parts.betaSlider.value = String(this.beta);
    if (this.host.moved) for (const name of ['alpha', 'beta', 'cap']) this.host.moved(name, this[name]);
  }
  /** Who wrote the response, where both models did. */
  drawWriter(ended) {
    const { run: { contrast }, parts: { rewrittenCue, takenOverCue, keys } } = this;
    this.writerLine.show(this.run, this.steps, ended);
    this.writerLine.thresholds(this.run, this.alpha, this.beta, this.cap);
    rewrittenCue.hidden = !contrast;
    takenOverCue.hidden = !contrast || !contrast.takeover;
    keys.textContent = KEYS_HELP + (contrast ? WRITER_KEYS_HELP : '');
  }
  drawTunedModel() {
    const tuned = this.run.lens, { tunedModel } = this.parts;
    tunedModel.hidden = !tuned;
    if (!tuned) return;
    const role = tuned.writer === 'tuned' ? ', which writes; the expert reads along' : ', which reads along';
    tunedModel.replaceChildren('Tuned expert: ',
      el('b', { class: 'lr-tuned-ink', title: tuned.tuned, text: tunedName(tuned) }),
      (this.run.scored ? '' : role) + '.',
      tuned.same_model ? ' It is the expert itself, so training changed nothing.' : '');
  }
  /** The prompt as the expert got it, and what of it is not as asked. */
  drawPrompt() {
    const { prompt: text, prompt_tokens: tokens, notes } = this.run, { prompt } = this.parts;
    prompt.hidden = !text;
    const summary = el('summary', { text: 'Prompt, ' + plural(tokens, 'token') });
    prompt.replaceChildren(summary, el('pre', { text: text || '' }),
      ...(notes || []).map((note) => el('p', { text: note })));
  }
  /** Whether the response is right, where the problem's answer is known. */
  showGrade({ answer, extracted, right }) {
    this.run.graded = { answer, extracted, right };
    const { grade } = this.parts;
    grade.classList.toggle('lr-wrong', !right);
    grade.replaceChildren(extracted === null ? 'No answer found ' : 'Answer ',
      el('b', {}, (extracted ?? '') + ' ', gradeSign(right)), ' known ' + answer);
  }
  /** Empty again, as before the first run. */
  clear() {
    const { intro, question, prompt } = this.parts;
    Object.assign(this, { run: null, steps: [], current: -1, details: new Map(), marks: {} });
    this.drawFormulas();
    for (const part of [question, prompt]) part.hidden = true;
    if (intro) intro.hidden = false;
    this.heat.reset(); this.view.empty(false); this.exportMenu.enable(false); this.drawCounts();
    this.curve.show(this.steps, this.beta, '', []);
    this.root.classList.remove('lr-has-run');
  }
  /** Selects the step of the strongest teaching signal, of those above β if there are any. */
  selectStrongest() {
    const { steps } = this, signal = (i) => steps[i].teaching ?? -1, all = [...steps.keys()];
    const above = all.filter((i) => isAbove(steps[i], this.beta));
    const best = (above.length ? above : all).reduce((most, i) => (signal(i) > signal(most) ? i : most));
    this.select(best, false);
  }
  addFacts(facts) {
    Object.assign(this.run, facts);
    this.drawTunedModel();
    this.drawPrompt();
    if (facts.others_across) this.takeOthers();
  }
  /** The further amateurs that read along. */
  takeOthers() {
    this.others = otherMetrics(this.run.others || [], this.run.others_across);
    this.offerMetrics(!!this.run.lens);
    this.curve.show(this.steps, this.beta, this.run.run, this.others);
  }
  append(more) {
    this.measure(more);
    this.steps.push(...more);
    this.heat.append(more, this.metric, this.beta);
    this.curve.grew();
    this.drawCounts();
    this.exportMenu.enable(this.count > 0);
    if (this.current < 0) this.view.empty(true);
    if (this.count === more.length) this.writeAddress(); // from its first step on, the run can be opened again
  }
  end(reason, seconds) {
    const n = this.count, { run } = this, tuned = reason === 'stop' && run.lens && run.lens.writer === 'tuned';
    const turn = reason === 'stop' && run.contrast ? 'The turn ended' : END_REASONS[reason];
    const unread = reason === 'stopped' && !n ? ' before the first token' : '';
    const texts = [tuned ? 'The tuned expert ended its turn' : (turn || reason) + unread,
      seconds > 0 && n ? plural(n, 'token') + ' in ' + seconds.toFixed(1) + ' s (' + formatCount(n / seconds) +
        ' per second)' : '',
      run.same_model ? 'Both models are the same, so KL is 0 everywhere' : ''];
    this.setStatus(joined(texts), false);
    this.drawWriter(true);
    run.ended = true;
    this.drawFormulas();
    if (run.parent) this.tellOrigin();
    if (this.host.ended) this.host.ended(this);
  }
  /** Problem and response with their formulas, where there are any and the reader wants them; the tokens stay. */
  async drawFormulas() {
    const { formulas, formulaSwitch, question, reading } = this.parts, { run } = this, asked = run?.question || '';
    const response = run?.ended ? wholeText(this.steps.map((step) => step.text)) : '';
    formulaSwitch.hidden = !hasFormulas(asked) && !hasFormulas(response);
    const on = formulas.checked && !formulaSwitch.hidden;
    reading.hidden = !on || !hasFormulas(response);
    if (!on) question.textContent = asked; else await showFormulas(question, asked);
    if (!reading.hidden && this.run === run) await showFormulas(reading, response);
  }
  async tellOrigin() {
    const { run } = this, origin = this.host.origin ? await this.host.origin(run.run) : null;
    if (this.run === run) this.drawParent(origin && !origin.error ? origin : null);
  }
  async branch(step, token) {
    const message = await this.host.branch(this.run.run, step, token);
    if (message) this.fail(message);
  }
  async exportAs(kind) {
    const { run, steps, metric, alpha, beta, cap } = this, name = 'lightreasoner-' + run.run.slice(0, 8);
    const curve = ['png', 'html'].includes(kind) ? await this.curve.picture() : '';
    if (kind !== 'png') return this.host.export(kind, run.run, { alpha, beta, cap, name, curve });
    download(name + '.png', await picture({ run, steps, metric, beta, node: this.parts.response, curve }));
    return '';
  }
}

/** Whether what has the focus needs a key itself: sliders, lists, buttons, and texts that can be scrolled. */
export function isTaken({ key, target }) {
  if (!(target instanceof HTMLElement) || target.closest('.lr-token')) return false;
  if (target.matches('textarea, select, input:not([type="range"]), [contenteditable]')) return true;
  if (target.matches('input')) return key.length > 1; // a slider has no letters
  if (key === 'Enter' || key === ' ') return true;
  const scrolls = target.scrollHeight > target.clientHeight + 1 && !target.matches('.lr-tokens');
  return scrolls && ['ArrowUp', 'ArrowDown', 'Home', 'End'].includes(key);
}

/** A step as the stream carries it: measures in the order of `columns`, then the plausible tokens (records.py). */
export function stepFromLine(line, columns, index) {
  const step = { index, text: line[0], token_id: line[1] };
  columns.forEach((name, i) => { step[name] = line[i + 2]; });
  step.plausible = line[columns.length + 2];
  return step;
}

/** Shows a whole record (a trace's JSON) at once. @param {Viewer} viewer */
export function showRecord(viewer, record) {
  const { id, request, parent, problem_id, prompt_ids, pair: { expert, amateur, same_model }, lens } = record;
  const { contrast } = request;
  const turns = (request.context || []).map(([role, text]) => `${role}: ${text}`); // they are before the question
  const question = [...turns, request.question].join('\n\n');
  viewer.begin({ run: id, question, parent, problem_id, prompt_tokens: prompt_ids.length,
    expert, amateur, same_model, lens, scored: request.response !== null, prompt: record.prompt, contrast,
    others: record.pair.others, others_across: record.pair.others_across,
    notes: record.prompt_notes });
  viewer.append(record.steps.map((step) => ({ ...step }))); // the viewer's own: it measures them at its α
  if (record.graded) viewer.showGrade(record.graded);
  viewer.end(record.finish_reason, record.seconds);
}
