// @ts-check
// The viewer on the Gradio page.
import { address } from '../shared/address.js';
import { EXAMPLE, PAPER } from '../shared/engine.js';
import { createCalls, scrollToResult } from '../shared/poll.js';
import { EXPORTS, exportFile } from './exports.js';
import { createCurve } from './kl_curve.js';
import { Viewer, showRecord, stepFromLine } from './viewer.js';
import { usualThresholds } from './writer.js';

const EXAMPLE_FILE = new URL('../' + EXAMPLE + '.json', import.meta.url).href;
const READING = 4000; // milliseconds after which a chart may be loaded for the example

const isRunning = () => document.body.classList.contains('lr-running');
const running = (on) => document.body.classList.toggle('lr-running', on);
const unless = (usual, value) => (value === usual ? null : value);
const writerOf = ({ contrast }) => contrast && (contrast.takeover ? 'takeover' : 'contrast');
/** The form's field for α or β of a contrast, which Run reads, gets what the slider says. */
function fillThreshold(name, value) {
  const field = document.querySelector('#lr-' + name + ' input');
  if (!(field instanceof HTMLInputElement) || Number(field.value) === value) return;
  field.value = String(value);
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
    /** @type {{ step: number | null, alpha?: number, beta?: number } | null} to be selected */ this.wanted = null;
    /** @type {{ run: string, key: string } | null} of a run that this page may stop */ this.owner = null;
    this.unasked = false; // what is shown now, nobody asked for
    /** @type {Map<string, (step: number) => any>} the details of the steps of the example */ this.example = new Map();
    const call = this.call = createCalls(server);
    this.viewer = new Viewer(element.querySelector('.lr-root'), {
      curve: createCurve,
      idle: 'Ready',
      intro: props.intro,
      kinds: EXPORTS,
      details: async (run, index) => this.example.get(run)?.(index) ?? call('step', run, index),
      branch: async (run, step, token) => { trigger('branch', { run, step, token }); return ''; },
      compare: (run) => trigger('compare', { run }),
      moved: fillThreshold,
      open: (run, step) => { this.wanted = { step }; trigger('open', { run }); },
      export: (kind, run, { alpha, beta, name, curve }) =>
        exportFile(kind, name, () => call('export', run, kind, alpha, beta, curve)),
      address: ({ run, step, alpha, beta }) => {
        if (this.unasked) return;
        const usual = usualThresholds(run.contrast, PAPER);
        address.set('inspect', { trace: run.run, step: unless(-1, step), alpha: unless(usual.alpha, alpha),
          beta: unless(usual.beta, beta), writer: writerOf(run), lens: null });
      },
    });
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
    if (isRunning() && viewer.count) viewer.setStatus('Writing \u00b7 ' + viewer.count + ' tokens', true);
    // once the run has ended, a step that does not exist is no longer waited for
    if (wanted && (ended || viewer.count > (wanted.step ?? -1))) this.selectWanted();
  }
  begin(header) {
    this.columns = header.columns || [];
    this.owner = header.key ? { run: header.run, key: header.key } : null;
    if (header.run) {
      this.viewer.begin(header);
      this.wanted = this.wanted || header.view || null;
    } else if (this.viewer.run?.run === EXAMPLE) this.viewer.clear(); // what was asked for failed
    running(!!this.owner);
    if (this.owner) scrollToResult(this.element);
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
    if (facts) viewer.addFacts(facts);
    if (graded) viewer.showGrade(graded);
    if (status) viewer.setStatus(status, true);
    if (error) {
      viewer.fail(error);
      if (!end) viewer.setStatus(viewer.run ? 'Failed' : 'Ready', false);
    }
    if (end) viewer.end(end, seconds);
    if (error || end) running(false);
    return !!end;
  }
  selectWanted() {
    const { step, alpha, beta } = this.wanted;
    this.wanted = null;
    if (Number.isFinite(beta)) this.viewer.setBeta(beta);
    if (Number.isFinite(alpha)) this.viewer.setAlpha(alpha);
    if (step >= 0 && step !== null) this.viewer.select(step, false);
  }
  /** Where nothing else is asked for, the page shows the example, until a run replaces it. */
  async showExample() {
    const link = () => ['trace', 'lens'].some((name) => address.get('inspect').has(name));
    const asked = () => this.head !== null || isRunning() || link();
    if (asked() || this.example.size) return;
    const answer = await fetch(EXAMPLE_FILE).catch(() => null), record = answer?.ok && await answer.json();
    if (!record || asked()) return;
    this.example.set(record.id, (step) => ({ candidates: record.steps[step].candidates, tokens: record.tokens }));
    this.viewer.curve.hold(firstMove(this.element));
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
    const numberOf = (name) => (params.has(name) ? Number(params.get(name)) : null);
    if (params.get('trace')) {
      live.wanted = { step: numberOf('step'), alpha: numberOf('alpha'), beta: numberOf('beta') };
      trigger('open', { run: params.get('trace') });
    } else if (params.get('lens')) trigger('lens', { run: params.get('lens') });
  });
  live.sync();
  const first = () => { if (address.shown === 'inspect') live.showExample(); };
  window.addEventListener('lr-tab', first);
  first();
  return () => live.sync();
}
