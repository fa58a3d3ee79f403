// The viewer: text, curve and step view over one run. It knows nothing of where runs come from:
// `host` hands it details, exports and branches, on the page from the server, in an exported file from the file.

function mountViewer(root, host) {
  let run = null, steps = [], metric = METRICS[0], alpha = PAPER.alpha, beta = PAPER.beta, current = -1, details = new Map(), asked = -1, lensed = false;

  const heat = createHeatmap((i, focus) => select(i, focus));
  const curve = createCurve((i, focus) => select(i, focus));
  const view = createStepView({ alpha: setAlpha, branch: host.branch ? branch : null, move: (d) => jump(d) });
  const exportsMenu = createExportMenu({ kinds: host.kinds, take });

  const state = el('div', { class: 'lr-state', role: 'status', 'aria-live': 'polite' });
  const error = el('div', { class: 'lr-error', role: 'alert', hidden: true });
  const parent = el('div', { class: 'lr-parent', hidden: true });
  const third = el('div', { class: 'lr-third', hidden: true });
  const counts = el('div', { class: 'lr-counts' });
  const betaOut = el('output', { class: 'lr-number' });
  const betaSlider = el('input', { type: 'range', class: 'lr-beta', min: '0', max: '3', step: '0.01', value: PAPER.beta, 'aria-label': 'Beta, the KL threshold in nats' });
  betaSlider.addEventListener('input', () => setBeta(Number(betaSlider.value)));
  const metricSelect = el('select', { 'aria-label': 'Colour the tokens by' });
  // What training moved can only be asked where a tuned expert reads along, and there it is what somebody came for.
  function offerMetrics(three) {
    const offered = METRICS.filter((m) => three || !m.tuned);
    metricSelect.replaceChildren(...offered.map((m) => el('option', { value: METRICS.indexOf(m), text: m.name })));
    if (three !== lensed) metric = three ? METRICS.find((m) => m.tuned) : offered.includes(metric) ? metric : METRICS[0];
    lensed = three;
    metricSelect.value = METRICS.indexOf(metric);
    changedCue.hidden = !three;
    scale();
  }
  const metricSays = el('span', { class: 'lr-muted lr-metric-says' });
  metricSelect.addEventListener('change', () => { metric = METRICS[metricSelect.value]; repaint(); });
  const legendFull = el('span', {});
  const question = el('blockquote', { class: 'lr-question', hidden: true, tabindex: '0', 'aria-label': 'The problem' });
  const intro = host.intro ? el('div', { class: 'lr-intro' }, el('h3', { text: host.intro.title }),
    el('ol', {}, ...host.intro.sentences.map((text) => el('li', { text })))) : null;

  const controls = el('div', { class: 'lr-controls' },
    el('label', { class: 'lr-slider', title: 'A step is selected when its KL lies above \u03b2.' }, el('span', { text: '\u03b2 threshold' }), betaSlider, betaOut),
    el('label', { class: 'lr-pick' }, el('span', { text: 'Colour' }), metricSelect));
  const legend = el('div', { class: 'lr-legend' },
    el('span', { text: '0' }), el('i', {}), legendFull,
    el('span', { class: 'lr-cue' }, el('span', { class: 'lr-sample lr-above', text: 'token' }), ' KL above \u03b2'),
    el('span', { class: 'lr-cue' }, el('span', { class: 'lr-sample lr-differs', text: 'token' }), ' top tokens differ'));
  const changedCue = legend.appendChild(el('span', { class: 'lr-cue', hidden: true }, el('span', { class: 'lr-sample lr-changed', text: 'token' }), ' training changed the favourite'));
  const keys = el('div', { class: 'lr-keys lr-muted', text: '\u2190 \u2192 \u2191 \u2193 step by step \u00b7 n / p next or previous above \u03b2 \u00b7 Home / End' });
  const response = el('section', { class: 'lr-card lr-response', 'aria-label': 'The response' },
    el('div', { class: 'lr-top' }, state, exportsMenu.node), error, parent, third, intro, question, heat.node, legend, metricSays, controls, counts, curve.node, keys);
  root.classList.add('lr');
  root.replaceChildren(el('div', { class: 'lr-viewer' }, response, view.node));

  function statistics() {
    const above = steps.filter((s) => finite(s.kl) > beta).length, differ = steps.filter((s) => !s.agree).length;
    const share = steps.length ? Math.round((100 * above) / steps.length) : 0;
    counts.replaceChildren();
    if (!steps.length) return;
    counts.append(el('b', { text: above + ' of ' + steps.length + ' steps above \u03b2' }), ' \u00b7 ' + share + ' % \u00b7 ' + differ + ' top-1 disagreement' + (differ === 1 ? '' : 's'));
    const changed = steps.filter((s) => s.tuned_changed).length;
    if (run.lens) counts.append(' \u00b7 training changed the favourite at ' + changed + (changed === 1 ? ' step' : ' steps'));
  }
  function scale() {
    betaOut.textContent = beta.toFixed(2);
    legendFull.textContent = metric.full + (metric.full === 1 ? ' nat' : ' nats') + ' and more';
    metricSays.textContent = metric.name + ': ' + metric.says;
  }
  function repaint() { heat.repaint(metric, beta); curve.draw(steps, beta, current); statistics(); scale(); drawStep(); address(); }
  function setBeta(value) { beta = value; betaSlider.value = value; repaint(); }
  function setAlpha(value) { alpha = Math.min(1, Math.max(PAPER.alphaFloor, value)); drawStep(); address(); } // a link may say anything
  function address() { if (host.address && run) host.address({ run: run.run, step: current, alpha, beta }); }

  async function drawStep() {
    const i = current;
    if (i < 0 || !steps[i]) { view.empty(steps.length > 0); return; }
    if (!details.has(i)) {
      view.wait(i);
      asked = i;
      const key = run.run, answer = await host.details(key, i);
      if (!run || run.run !== key) return;
      if (answer.error) { if (current === i) view.ready(); fail(answer.error); return; }
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
    address();
  }
  function jump(direction) { const i = heat.nextAbove(direction, beta); if (i >= 0) select(i, true); }

  heat.node.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowRight: () => current + 1, ArrowLeft: () => current - 1, ArrowDown: () => heat.onLine(1), ArrowUp: () => heat.onLine(-1),
      Home: () => 0, End: () => steps.length - 1, n: () => heat.nextAbove(1, beta), p: () => heat.nextAbove(-1, beta), Enter: () => Math.max(0, current), ' ': () => Math.max(0, current) };
    if (!moves[event.key]) return;
    event.preventDefault();
    const i = moves[event.key]();
    if (i >= 0 && i < steps.length) select(i, true);
  });

  const REASONS = { stop: 'The expert ended its turn', length: 'Cut off at the token limit', given: 'Your text, scored', stopped: 'Stopped', error: 'Broke off' };
  function say(text, busy) {
    if (state.textContent !== text) state.textContent = text;
    state.classList.toggle('lr-busy', !!busy);
    heat.busy(busy);
  }
  function fail(message) {
    error.hidden = false;
    error.textContent = message;
    root.classList.toggle('lr-has-run', steps.length > 0); // no empty curve under what went wrong
  }

  function begin(header) {
    run = header; steps = []; current = -1; details = new Map();
    error.hidden = true; error.textContent = '';
    if (intro) intro.hidden = true;
    question.hidden = !header.question;
    question.textContent = header.question || '';
    parent.hidden = !header.parent;
    parent.replaceChildren();
    if (header.parent) parent.append('Branched at step ' + header.parent.step + '. ',
      host.open ? el('button', { type: 'button', class: 'lr-back', onclick: () => host.open(header.parent.id, header.parent.step), text: '\u2190 Back to the parent' }) : '');
    drawThird();
    offerMetrics(!!header.lens);
    heat.reset(); view.empty(false); exportsMenu.enable(false); statistics(); curve.draw(steps, beta, -1);
    root.classList.add('lr-has-run');
  }
  function drawThird() {
    const lens = run.lens;
    third.hidden = !lens;
    if (!lens) return;
    const writes = run.scored ? '' : lens.writer === 'tuned' ? ', which writes; the expert reads along' : ', which reads along';
    third.replaceChildren('Tuned expert: ', el('b', { class: 'lr-tuned-ink', title: lens.tuned, text: lensName(lens) }), writes + '.',
      lens.same_model ? ' It is the expert itself, so training moved nothing.' : '');
  }
  function tell(facts) { Object.assign(run, facts); drawThird(); }
  function append(more) {
    steps.push(...more);
    heat.append(more, metric, beta);
    curve.draw(steps, beta, current);
    statistics();
    exportsMenu.enable(steps.length > 0);
    if (current < 0) view.empty(true);
    if (steps.length === more.length) address(); // from its first step on, the run can be opened again
  }
  function end(reason, seconds) {
    const rate = seconds > 0 && steps.length ? ' \u00b7 ' + steps.length + ' tokens in ' + seconds.toFixed(1) + ' s (' + (steps.length / seconds).toFixed(0) + ' a second)' : '';
    const ended = reason === 'stop' && run.lens && run.lens.writer === 'tuned' ? 'The tuned expert ended its turn' : REASONS[reason] || reason;
    say(ended + rate + (run.same_model ? ' \u00b7 Both models are the same, so KL is 0 everywhere' : ''), false);
  }
  async function branch(step, token) { const message = await host.branch(run.run, step, token); if (message) fail(message); }
  async function take(kind) {
    const name = 'lightreasoner-' + run.run.slice(0, 8);
    if (kind === 'png') { download(name + '.png', 'image/png', await picture(run, steps, metric, beta, themeColours(response))); return ''; }
    return host.take(kind, run.run, { alpha, beta, name });
  }

  offerMetrics(false);
  say(host.idle || '', false);
  curve.draw(steps, beta, -1);
  return { begin, append, tell, say, fail, end, select, setBeta, setAlpha, get run() { return run; }, get count() { return steps.length; } };
}

// A tuned expert's name: its run's, or the end of its reference.
function lensName(lens) {
  if (lens.name) return lens.name;
  const parts = lens.tuned.split(/[/\\]/).filter(Boolean);
  return parts.length > 2 ? '\u2026/' + parts.slice(-2).join('/') : lens.tuned;
}

// A step as the stream carries it, an array in the order of `columns`.
function stepFromLine(line, columns, index) {
  const step = { index, text: line[0], token_id: line[1] };
  columns.forEach((name, i) => { step[name] = line[i + 2]; });
  return step;
}

// Show a whole record (a trace's JSON) at once.
function showRecord(viewer, record) {
  viewer.begin({ run: record.id, question: record.request.question, parent: record.parent, problem_id: record.problem_id, prompt_tokens: record.prompt_ids.length,
    expert: record.pair.expert, amateur: record.pair.amateur, same_model: record.pair.same_model, lens: record.lens, scored: record.request.response !== null });
  viewer.append(record.steps);
  viewer.end(record.finish_reason, record.seconds);
}
