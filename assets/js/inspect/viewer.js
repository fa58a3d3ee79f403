// The viewer of one run: text, curve and step view. It does not know where runs come from: `host` gives it details,
// exports and branches, on the page from the server, in an exported file from the file.

const BETA_HELP = 'A step is selected when its KL lies above \u03b2.';
const KEYS_HELP = '\u2190 \u2192 \u2191 \u2193 step by step \u00b7 n / p next or previous above \u03b2 \u00b7 Home / End';
const END_REASONS = { stop: 'The expert ended its turn', length: 'Cut off at the token limit',
  given: 'Your text, scored', stopped: 'Stopped', error: 'Failed' };

function mountViewer(root, host) {
  let run = null, steps = [], metric = METRICS[0], alpha = PAPER.alpha, beta = PAPER.beta, current = -1;
  let details = new Map(), asked = -1, withTuned = false;

  const heat = createHeatmap(select), curve = createCurve(select);
  const view = createStepView({ alpha: setAlpha, branch: host.branch ? branch : null, move: jump });
  const exportMenu = createExportMenu(host.kinds, exportAs);

  const status = el('div', { class: 'lr-state', role: 'status', 'aria-live': 'polite' });
  const error = createErrorBox();
  const parent = el('div', { class: 'lr-parent', hidden: true }),
    tunedModel = el('div', { class: 'lr-tuned-model', hidden: true });
  const counts = el('div', { class: 'lr-counts' });
  const betaOut = el('output', { class: 'lr-number' });
  const betaSlider = el('input', { type: 'range', class: 'lr-beta', min: '0', max: '3', step: '0.01', value: PAPER.beta,
    'aria-label': 'Beta, the KL threshold in nats' });
  betaSlider.addEventListener('input', () => setBeta(Number(betaSlider.value)));
  const metricSelect = el('select', { 'aria-label': 'Colour the tokens by' });
  metricSelect.addEventListener('change', () => { metric = METRICS[metricSelect.value]; repaint(); });
  const metricSays = el('span', { class: 'lr-muted lr-metric-says' }), legendFull = el('span', {});
  const question = el('blockquote', { class: 'lr-question', hidden: true, tabindex: '0', 'aria-label': 'The problem' });
  const intro = host.intro ? el('div', { class: 'lr-intro' }, el('h3', { text: host.intro.title }),
    el('ol', {}, ...host.intro.sentences.map((text) => el('li', { text })))) : null;

  const controls = el('div', { class: 'lr-controls' },
    el('label', { class: 'lr-slider', title: BETA_HELP }, el('span', { text: '\u03b2 threshold' }), betaSlider,
      betaOut),
    el('label', { class: 'lr-pick' }, el('span', { text: 'Colour' }), metricSelect));
  const cue = (name, text) => el('span', { class: 'lr-cue' },
    el('span', { class: 'lr-sample lr-' + name, text: 'token' }), ' ' + text);
  const changedCue = cue('changed', 'training changed the top-1 token');
  const legend = el('div', { class: 'lr-legend' }, el('span', { text: '0' }), el('i', {}), legendFull,
    cue('above', 'KL above \u03b2'), cue('differs', 'top-1 differs'), changedCue);
  const response = el('section', { class: 'lr-card lr-response', 'aria-label': 'The response' },
    el('div', { class: 'lr-top' }, status, exportMenu.node), error.node, parent, tunedModel, intro, question, heat.node,
    legend, metricSays, controls, counts, curve.node, el('div', { class: 'lr-keys lr-muted', text: KEYS_HELP }));
  root.classList.add('lr');
  root.replaceChildren(el('div', { class: 'lr-viewer' }, response, view.node));

  // The effect of training is only offered where there is a tuned expert, and there it is the first choice.
  function offerMetrics(tuned) {
    const offered = METRICS.filter((m) => tuned || !m.tuned);
    metricSelect.replaceChildren(...offered.map((m) => el('option', { value: METRICS.indexOf(m), text: m.name })));
    if (tuned !== withTuned) {
      metric = tuned ? METRICS.find((m) => m.tuned) : offered.includes(metric) ? metric : METRICS[0];
    }
    withTuned = tuned;
    metricSelect.value = METRICS.indexOf(metric);
    changedCue.hidden = !tuned;
    drawScale();
  }
  function drawCounts() {
    counts.replaceChildren();
    if (!steps.length) return;
    const above = steps.filter((s) => isAbove(s, beta)).length, differ = steps.filter((s) => !s.agree).length;
    counts.append(el('b', { text: above + ' of ' + steps.length + ' steps above \u03b2' }), ' \u00b7 ' +
      Math.round((100 * above) / steps.length) + ' % \u00b7 ' + plural(differ, 'top-1 disagreement'));
    const changed = steps.filter((s) => s.tuned_changed).length;
    if (run.lens) counts.append(' \u00b7 training changed the top-1 token at ' + plural(changed, 'step'));
  }
  function drawScale() {
    betaOut.textContent = beta.toFixed(2);
    legendFull.textContent = metric.full + (metric.full === 1 ? ' nat' : ' nats') + ' and more';
    metricSays.textContent = metric.name + ': ' + metric.says;
  }
  function repaint() {
    heat.repaint(metric, beta);
    curve.draw(steps, beta, current);
    drawCounts(); drawScale(); drawStep(); writeAddress();
  }
  function setBeta(value) { beta = value; betaSlider.value = value; repaint(); }
  // a link may hold any
  function setAlpha(value) { alpha = clamp(value, PAPER.alphaFloor, 1); drawStep(); writeAddress(); }
  function writeAddress() { if (host.address && run) host.address({ run: run.run, step: current, alpha, beta }); }

  async function drawStep() {
    const i = current;
    if (i < 0 || !steps[i]) { view.empty(steps.length > 0); return; }
    if (!details.has(i)) {
      view.wait(i);
      asked = i;
      const key = run.run, answer = await host.details(key, i);
      if (!run || run.run !== key) return;
      if (answer.error) {
        if (current === i) view.ready();
        fail(answer.error);
        return;
      }
      details.set(i, answer);
      if (asked !== i || current !== i) return; // a later selection is on its way
    }
    view.ready();
    view.show(run, steps[i], details.get(i), alpha, beta);
  }
  function select(i, focus) {
    if (!heat.select(i, focus)) return;
    current = i;
    curve.draw(steps, beta, current);
    drawStep();
    writeAddress();
  }
  function jump(direction) { const i = heat.nextAbove(direction, beta); if (i >= 0) select(i, true); }

  const MOVES = { ArrowRight: () => current + 1, ArrowLeft: () => current - 1,
    ArrowDown: () => heat.onLine(1), ArrowUp: () => heat.onLine(-1), Home: () => 0, End: () => steps.length - 1,
    n: () => heat.nextAbove(1, beta), p: () => heat.nextAbove(-1, beta),
    Enter: () => Math.max(0, current), ' ': () => Math.max(0, current) };
  heat.node.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !MOVES[event.key]) return;
    event.preventDefault();
    const i = MOVES[event.key]();
    if (i >= 0 && i < steps.length) select(i, true);
  });

  function setStatus(text, busy) {
    setText(status, text);
    status.classList.toggle('lr-busy', !!busy);
    heat.busy(!!busy);
  }
  function fail(message) {
    error.show(message);
    root.classList.toggle('lr-has-run', steps.length > 0); // no empty curve below an error
  }

  function begin(header) {
    run = header; steps = []; current = -1; details = new Map();
    error.show('');
    if (intro) intro.hidden = true;
    question.hidden = !header.question;
    question.textContent = header.question || '';
    parent.hidden = !header.parent;
    parent.replaceChildren();
    if (header.parent) {
      const { id, step } = header.parent;
      const text = '\u2190 Back to the parent', onclick = () => host.open(id, step);
      const button = host.open ? el('button', { type: 'button', text, onclick }) : '';
      parent.append('Branched at step ' + step + '. ', button);
    }
    drawTunedModel();
    offerMetrics(!!header.lens);
    heat.reset(); view.empty(false); exportMenu.enable(false); drawCounts(); curve.draw(steps, beta, -1);
    root.classList.add('lr-has-run');
  }
  function drawTunedModel() {
    const tuned = run.lens;
    tunedModel.hidden = !tuned;
    if (!tuned) return;
    const role = tuned.writer === 'tuned' ? ', which writes; the expert reads along' : ', which reads along';
    tunedModel.replaceChildren('Tuned expert: ',
      el('b', { class: 'lr-tuned-ink', title: tuned.tuned, text: tunedName(tuned) }),
      (run.scored ? '' : role) + '.', tuned.same_model ? ' It is the expert itself, so training changed nothing.' : '');
  }
  function addFacts(facts) { Object.assign(run, facts); drawTunedModel(); }
  function append(more) {
    steps.push(...more);
    heat.append(more, metric, beta);
    curve.draw(steps, beta, current);
    drawCounts();
    exportMenu.enable(steps.length > 0);
    if (current < 0) view.empty(true);
    if (steps.length === more.length) writeAddress(); // from its first step on, the run can be opened again
  }
  function end(reason, seconds) {
    const n = steps.length, tuned = reason === 'stop' && run.lens && run.lens.writer === 'tuned';
    const texts = [tuned ? 'The tuned expert ended its turn' : END_REASONS[reason] || reason,
      seconds > 0 && n ? n + ' tokens in ' + seconds.toFixed(1) + ' s (' + (n / seconds).toFixed(0) +
        ' per second)' : '',
      run.same_model ? 'Both models are the same, so KL is 0 everywhere' : ''];
    setStatus(texts.filter(Boolean).join(' \u00b7 '), false);
  }
  async function branch(step, token) {
    const message = await host.branch(run.run, step, token);
    if (message) fail(message);
  }
  async function exportAs(kind) {
    const name = 'lightreasoner-' + run.run.slice(0, 8);
    if (kind !== 'png') return host.export(kind, run.run, { alpha, beta, name });
    download(name + '.png', 'image/png', await picture(run, steps, metric, beta, themeColours(response)));
    return '';
  }

  offerMetrics(false);
  setStatus(host.idle || '', false);
  curve.draw(steps, beta, -1);
  return { begin, append, addFacts, setStatus, fail, end, select, setBeta, setAlpha,
    get run() { return run; }, get count() { return steps.length; } };
}

// A tuned expert's name: its run's, or the end of its reference.
function tunedName(tuned) {
  if (tuned.name) return tuned.name;
  const parts = tuned.tuned.split(/[/\\]/).filter(Boolean);
  return parts.length > 2 ? '\u2026/' + parts.slice(-2).join('/') : tuned.tuned;
}

// A step as the stream carries it, an array in the order of `columns`.
function stepFromLine(line, columns, index) {
  const step = { index, text: line[0], token_id: line[1] };
  columns.forEach((name, i) => { step[name] = line[i + 2]; });
  return step;
}

// Shows a whole record (a trace's JSON) at once.
function showRecord(viewer, record) {
  const { id, request, parent, problem_id, prompt_ids, pair: { expert, amateur, same_model }, lens } = record;
  viewer.begin({ run: id, question: request.question, parent, problem_id, prompt_tokens: prompt_ids.length,
    expert, amateur, same_model, lens, scored: request.response !== null });
  viewer.append(record.steps);
  viewer.end(record.finish_reason, record.seconds);
}
