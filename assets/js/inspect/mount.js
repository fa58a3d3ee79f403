// @ts-check
// The viewer on the Gradio page.
import { address } from '../shared/address.js';
import { el } from '../shared/dom.js';
import { EXAMPLE, PAPER } from '../shared/engine_data.js';
import { plural } from '../shared/format.js';
import { createCalls, scrollToResult } from '../shared/poll.js';
import { CompareView } from './compare.js';
import { keepDraft } from './draft.js';
import { EXPORTS, exportFile } from './exports.js';
import { createFold } from './folding_form.js';
import { History, seenOf } from './history.js';
import { createCurve } from './kl_curve.js';
import { Viewer, showRecord, stepFromLine } from './viewer.js';
import { usualThresholds } from './writer.js';

const EXAMPLE_FILE = new URL('../' + EXAMPLE + '.json', import.meta.url).href;
const LOOK = 300; // milliseconds between looks at responses that are being scored
const SETTLED = 800; // milliseconds after which a link has filled the form
const READING = 4000; // milliseconds after which a chart may be loaded for the example

const OPENING = 'Opening the trace …';
const NO_FLIP = 'No evaluation of this model has a problem that changed sides. Run shows the three models on the ' +
  'problem of the form; an evaluation beside the base finds one to compare.';

// what the two traces of a comparison are called, and what is said of it
const SIDES = { flip: ['Before', 'After'], branch: ['The parent', 'The branch'], asked: ['Before', 'After'] };
const NOTES = { asked: 'No evaluation of this model has a problem that changed sides, so this is a problem of its ' +
  'dataset, answered by the expert before and after tuning.' };
const WAITS = { flip: 'Scoring the responses to a problem that changed sides',
  asked: 'The expert and the tuned expert answer a problem of the dataset' };

const isRunning = () => document.body.classList.contains('lr-running');
const running = (on) => document.body.classList.toggle('lr-running', on);
const unless = (usual, value) => (value === usual ? null : value);
const writerOf = ({ contrast }) => contrast && (contrast.takeover ? 'takeover' : 'contrast');
/**
 * The form's field for α, β or the cap of a contrast, which Run reads, gets what the slider says.
 * @param {string} name @param {number | null} value
 */
function fillThreshold(name, value) {
  const field = document.querySelector('#lr-' + name + ' input'), text = String(value ?? 0);
  if (!(field instanceof HTMLInputElement)) return;
  if (Number(field.value) === Number(text)) return;
  field.value = text;
  field.dispatchEvent(new Event('input', { bubbles: true }));
}

/** Follows the component's value, which only grows, by one JSON document per line, and shows it in the viewer. */
class LiveRun {
  /** @param {import('../shared/start.js').Gradio} gradio */
  constructor({ element, props, trigger, server }) {
    this.element = element;
    this.props = props;
    this.position = 0; // up to which the value is shown
    /** @type {string | null} the first line of the run that is shown */ this.head = null;
    /** @type {string[]} */ this.columns = [];
    /** @type {{ step: number | null, alpha?: number, beta?: number, cap?: number, colour?: string } | null} */
    this.wanted = null;
    /** @type {{ run: string, key: string } | null} of a run that this page may stop */ this.owner = null;
    this.unasked = false; // what is shown now, nobody asked for
    this.filled = () => {};
    /** @type {Map<string, (step: number) => any>} the details of the steps of the example */ this.example = new Map();
    const call = this.call = createCalls(server);
    this.ask = (run) => {
      this.viewer.setStatus(OPENING, true);
      trigger('open', { run });
    };
    this.fold = createFold();
    this.history = new History((id) => '?trace=' + this.viewer.run.run + '&with=' + id);
    this.root = /** @type {HTMLElement} */ (element.querySelector('.lr-root'));
    this.viewer = new Viewer(this.root, {
      curve: createCurve,
      idle: 'Ready',
      intro: props.intro,
      kinds: EXPORTS,
      details: async (run, index) => this.example.get(run)?.(index) ?? call('step', run, index),
      branch: async (run, step, token) => { trigger('branch', { run, step, token }); return ''; },
      compare: (run) => trigger('compare', { run }),
      moved: fillThreshold,
      open: (run, step) => { this.wanted = { step }; this.reopen(run); },
      origin: (run) => call('origin', run),
      beside: (run, parent) => this.openComparison(parent, run, this.viewer.run.parent.contrast ? null : 'branch'),
      ended: (viewer) => this.remember(viewer),
      export: (kind, run, { alpha, beta, cap, name, curve }) =>
        exportFile(kind, name, () => call('export', run, kind, alpha, beta, curve, cap)),
      address: ({ run, step, alpha, beta, cap, colour }) => {
        if (this.unasked || this.comparison?.shown) return;
        const usual = usualThresholds(run.contrast, PAPER);
        address.set('inspect', { trace: run.run, step: unless(-1, step), alpha: unless(usual.alpha, alpha),
          beta: unless(usual.beta, beta), cap, writer: writerOf(run), colour, lens: null, with: null, other: null,
          as: null });
      },
    });
    this.makeComparison();
  }
  /** Shows a run again. The value may hold it already, and then a server's answer would change nothing. */
  reopen(run) {
    const held = this.head !== null && JSON.parse(this.head).run === run && !isRunning();
    if (!held) { this.ask(run); return; }
    this.head = null;
    this.sync();
  }
  makeComparison() {
    const root = el('div', { class: 'lr-compare-root' });
    this.root.before(this.history.node);
    /** @type {string[]} */ this.compared = [];
    this.sought = 0; // what was asked for last
    this.comparison = new CompareView(root, {
      place: (view) => { if (!view.isConnected) this.root.after(view); },
      close: () => this.closeComparison(),
      address: ({ left, right }) => {
        const [trace, other, as] = this.compared, none = { alpha: null, beta: null, writer: null, lens: null };
        address.set('inspect', { trace, with: other, as, step: left, other: right, colour: null, ...none });
      },
    });
  }
  /** Two traces side by side, in place of the one. */
  async openComparison(one, other, as = null, step = null, right = null) {
    const mine = ++this.sought;
    this.compared = [one, other, as];
    this.besides('Reading both traces …');
    const answer = await this.call('beside', one, other);
    if (mine !== this.sought) return;
    if (answer.error) this.comparison.wait('', answer.error);
    else this.comparison.show(answer, SIDES[as] || [], step, right, NOTES[as]);
  }
  /** The comparison that an address names, or the one of a run's tuned expert with its base. */
  followComparison(params) {
    const numberOf = (name) => (params.has(name) ? Number(params.get(name)) : null);
    const [trace, other, lens, as] = ['trace', 'with', 'lens', 'as'].map((name) => params.get(name));
    if (trace && other) this.openComparison(trace, other, as, numberOf('step'), numberOf('other'));
    else if (lens && !trace) this.findFlip(lens);
  }
  besides(text) {
    this.fold.set(true);
    this.root.hidden = true;
    this.comparison.wait(text);
  }
  closeComparison(show = this.compared[0]) {
    this.sought++;
    this.comparison.hide();
    this.root.hidden = false;
    if (!show) return;
    if (this.viewer.run?.run === show) this.viewer.writeAddress(); else this.reopen(show);
  }
  /** A problem that a run's tuned expert gained or lost, before and after, once both responses are scored. */
  async findFlip(run) {
    const mine = ++this.sought;
    for (;;) {
      const answer = await this.call('flip', run);
      if (mine !== this.sought) return;
      if (answer.traces) { this.openComparison(answer.traces[0], answer.traces[1], answer.as); return; }
      if (!answer.status) { this.noFlip(answer); return; }
      this.besides(WAITS[answer.as] + ' · ' + answer.status + ' …');
      await new Promise((done) => { setTimeout(done, LOOK); });
    }
  }
  noFlip({ error }) {
    if (this.comparison.shown) { this.comparison.wait('', error || NO_FLIP); return; }
    if (!error && !this.viewer.run) this.viewer.setStatus(NO_FLIP, false);
  }
  remember({ run, steps }) {
    if (run.run === EXAMPLE) { this.history.showing(null); return; }
    this.history.add(seenOf(run, steps.length));
  }
  // A value that is shorter, or has another first line, is another run.
  sync() {
    const value = String(this.props.value || ''), first = value.indexOf('\n');
    if (first < 0) return;
    const head = value.slice(0, first);
    if (head !== this.head || value.length < this.position) {
      this.head = head;
      this.position = first + 1;
      this.begin(JSON.parse(head));
    }
    const end = value.lastIndexOf('\n') + 1, lines = value.slice(this.position, end).split('\n').filter(Boolean);
    this.position = Math.max(this.position, end);
    const ended = this.add(lines.map((line) => JSON.parse(line))), { viewer, wanted } = this;
    if (isRunning() && viewer.count) viewer.setStatus('Writing · ' + plural(viewer.count, 'token'), true);
    // once the run has ended, a step that does not exist is no longer waited for
    if (wanted && (ended || viewer.count > (wanted.step ?? -1))) this.selectWanted();
  }
  begin(header) {
    this.columns = header.columns || [];
    this.owner = header.key ? { run: header.run, key: header.key } : null;
    if (header.run) {
      this.viewer.begin(header);
      this.wanted = this.wanted || header.view || null;
      if (header.view) this.filled();
    } else if (this.viewer.run?.run === EXAMPLE) this.viewer.clear(); // what was asked for failed
    running(!!this.owner);
    if (!this.owner) return;
    if (this.comparison.shown) this.closeComparison('');
    this.fold.set(true);
    scrollToResult(this.element);
  }
  /** Returns whether the run has ended. */
  add(items) {
    const steps = [], flush = () => { if (steps.length) this.viewer.append(steps.splice(0)); };
    let ended = false;
    for (const item of items) {
      if (Array.isArray(item)) steps.push(stepFromLine(item, this.columns, this.viewer.count + steps.length));
      else { flush(); ended = this.apply(item) || ended; }
    }
    flush();
    return ended;
  }
  apply({ facts, status, error, end, seconds, graded }) {
    const { viewer } = this;
    if (facts) {
      this.columns = facts.columns || this.columns; // more than were known before the models were loaded
      viewer.addFacts(facts);
    }
    if (graded) viewer.showGrade(graded);
    if (status) viewer.setStatus(status, true);
    if (error) {
      viewer.fail(error);
      if (!end) viewer.setStatus(viewer.run ? 'Failed' : 'Ready', false);
    }
    if (end) viewer.end(end, seconds);
    if (error && !viewer.count) this.fold.set(false); // there is nothing to read, but something to correct
    if (error || end) running(false);
    if (end && this.owner && viewer.count && viewer.current < 0) { // as the example does; the link stays the run's
      this.unasked = true;
      viewer.selectStrongest();
      this.unasked = false;
    }
    return !!end;
  }
  selectWanted() {
    const { step, alpha, beta, cap, colour } = this.wanted;
    this.wanted = null;
    if (Number.isFinite(beta)) this.viewer.setBeta(beta);
    if (Number.isFinite(alpha)) this.viewer.setAlpha(alpha);
    if (Number.isFinite(cap)) this.viewer.setCap(cap);
    if (colour) this.viewer.colourByKey(colour);
    if (step >= 0 && step !== null) this.viewer.select(step, false);
  }
  /** Where nothing else is asked for, the page shows the example, until a run replaces it. */
  async showExample(again = false) {
    const link = () => ['trace', 'lens'].some((name) => address.get('inspect').has(name));
    const asked = () => (this.head !== null && !again) || isRunning() || link();
    if (asked() || (this.example.size && !again)) return;
    const answer = await fetch(EXAMPLE_FILE).catch(() => null), record = answer?.ok && await answer.json();
    if (!record || asked()) return;
    this.example.set(record.id, (step) => ({ candidates: record.steps[step].candidates,
      tokens: record.tokens, spelled: record.spelled }));
    this.viewer.curve.hold(record.id, firstMove(this.element));
    this.unasked = true;
    showRecord(this.viewer, record);
    this.viewer.selectStrongest();
    this.viewer.setStatus('A stored example: Run writes one of your own', false);
    this.unasked = false;
  }
  stop() { if (this.owner) this.call('stop', this.owner.run, this.owner.key); }
}

/** Kept when the reader first does something with the result, or has had the time to read. */
const firstMove = (result) => new Promise((moved) => {
  const signs = ['pointerdown', 'pointermove', 'keydown', 'wheel', 'touchstart', 'scroll'];
  for (const sign of signs) result.addEventListener(sign, moved, { once: true, passive: true });
  setTimeout(moved, READING);
});

/** @param {import('../shared/start.js').Gradio} gradio */
export function mount(gradio) {
  const { trigger } = gradio, live = new LiveRun(gradio);
  document.addEventListener('click', ({ target }) => {
    if (target instanceof Element && target.closest('#lr-stop')) live.stop();
  });
  address.watch('inspect', (params) => { // a link on another tab to a trace, or to a run's tuned expert
    const [trace, lens] = ['trace', 'lens'].map((name) => params.get(name));
    if (!params.get('with') && live.comparison.shown) live.closeComparison('');
    live.followComparison(params); // before the trace is shown, which writes its own address
    if (trace) {
      const numberOf = (name) => (params.has(name) ? Number(params.get(name)) : null);
      live.wanted = { step: numberOf('step'), alpha: numberOf('alpha'), beta: numberOf('beta'),
        cap: params.has('cap') ? numberOf('cap') : NaN, colour: params.get('colour') };
      live.reopen(trace);
    } else if (lens) trigger('lens', { run: lens });
    else live.showExample(true); // Back to the page as it opens
  });
  const restore = keepDraft();
  setTimeout(restore, SETTLED);
  live.filled = () => setTimeout(() => restore(true), SETTLED); // by a link, which can take longer
  live.followComparison(address.get('inspect')); // first: a trace that is here already writes its own address
  live.sync();
  if (address.get('inspect').has('trace') && live.head === null) live.viewer.setStatus(OPENING, true); // it is read
  const first = () => { if (address.shown === 'inspect') live.showExample(); };
  window.addEventListener('lr-tab', first);
  first();
  return () => live.sync();
}
