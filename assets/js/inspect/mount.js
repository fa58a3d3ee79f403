// @ts-check
// The viewer on the Gradio page.
import { address } from '../shared/address.js';
import { PAPER } from '../shared/engine.js';
import { createCalls, scrollToResult } from '../shared/poll.js';
import { EXPORTS, exportFile } from './exports.js';
import { createCurve } from './kl_curve.js';
import { Viewer, stepFromLine } from './viewer.js';

export function mount({ element, props, trigger, server }) {
  let position = 0, shownRun = null, columns = [], wanted = null, owner = null;
  const call = createCalls(server), unless = (usual, value) => (value === usual ? null : value);

  const viewer = new Viewer(element.querySelector('.lr-root'), {
    curve: createCurve,
    idle: 'Ready',
    intro: props.intro,
    kinds: EXPORTS,
    details: (run, index) => call('step', run, index),
    branch: async (run, step, token) => { trigger('branch', { run, step, token }); return ''; },
    open: (run, step) => { wanted = { step }; trigger('open', { run }); },
    export: (kind, run, { alpha, beta, name, curve }) =>
      exportFile(kind, name, () => call('export', run, kind, alpha, beta, curve)),
    address: ({ run, step, alpha, beta }) => address.set('inspect', { trace: run, step: unless(-1, step),
      alpha: unless(PAPER.alpha, alpha), beta: unless(PAPER.beta, beta), lens: null }),
  });

  function running(on) { document.body.classList.toggle('lr-running', on); }

  // The value only grows, by one JSON document per line. A shorter value, or another first line, is another run.
  function sync() {
    const value = String(props.value || ''), first = value.indexOf('\n');
    if (first < 0) return;
    const head = value.slice(0, first);
    if (head !== shownRun || value.length < position) {
      shownRun = head;
      position = first + 1;
      begin(JSON.parse(head));
    }
    const end = value.lastIndexOf('\n') + 1, lines = value.slice(position, end).split('\n').filter(Boolean);
    position = Math.max(position, end);
    const steps = [], flush = () => { if (steps.length) viewer.append(steps.splice(0)); };
    let ended = false;
    for (const item of lines.map((line) => JSON.parse(line))) {
      if (Array.isArray(item)) steps.push(stepFromLine(item, columns, viewer.count + steps.length));
      else { flush(); ended = apply(item) || ended; }
    }
    flush();
    if (document.body.classList.contains('lr-running') && viewer.count) {
      viewer.setStatus('Writing \u00b7 ' + viewer.count + ' tokens', true);
    }
    // once the run has ended, a step that does not exist is no longer waited for
    if (wanted && (ended || viewer.count > (wanted.step ?? -1))) selectWanted();
  }
  function begin(header) {
    columns = header.columns || [];
    owner = header.key ? { run: header.run, key: header.key } : null;
    if (header.run) {
      viewer.begin(header);
      wanted = wanted || header.view || null;
    }
    running(!!owner);
    if (owner) scrollToResult(element);
  }
  // Returns whether the run has ended.
  function apply({ facts, status, error, end, seconds }) {
    if (facts) viewer.addFacts(facts);
    if (status) viewer.setStatus(status, true);
    if (error) {
      viewer.fail(error);
      if (!end) viewer.setStatus(viewer.run ? 'Failed' : 'Ready', false);
    }
    if (end) viewer.end(end, seconds);
    if (error || end) running(false);
    return !!end;
  }
  function selectWanted() {
    const { step, alpha, beta } = wanted;
    wanted = null;
    if (Number.isFinite(beta)) viewer.setBeta(beta);
    if (Number.isFinite(alpha)) viewer.setAlpha(alpha);
    if (step >= 0 && step !== null) viewer.select(step, false);
  }

  document.addEventListener('click', (event) => {
    if (event.target.closest('#lr-stop') && owner) call('stop', owner.run, owner.key);
  });
  address.watch('inspect', (params) => { // a link on another tab to a trace, or to a run's tuned expert
    const numberOf = (name) => (params.has(name) ? Number(params.get(name)) : null);
    if (params.get('trace')) {
      wanted = { step: numberOf('step'), alpha: numberOf('alpha'), beta: numberOf('beta') };
      trigger('open', { run: params.get('trace') });
    } else if (params.get('lens')) trigger('lens', { run: params.get('lens') });
  });
  sync();
  return sync;
}
