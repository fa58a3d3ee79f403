// One evaluation: its models with their intervals, the paired comparison, and its flips. `host` has the server's calls.

// The models of one benchmark on one axis, the paper's figures below them. models: as the server has them.
const PAPERS_WORDS = { base: 'base', sft: 'SFT', lightreasoner: 'LightReasoner' };
function modelsTable(name, models, paper, link) {
  const there = models.filter((m) => Number.isFinite(m.pass_at_1));
  const axis = shareAxis([...there.flatMap((m) => m.interval), ...paper.map((p) => p.value)]);
  const base = there.find((m) => m.base), counted = (n, m) => (n ? whole(n) + ' (' + pct(n / m.problems) + ')' : '0');
  const columns = [{ title: 'Model', class: 'lr-name' }, { title: 'pass@1', class: 'lr-num' }, { title: '95 % interval', class: 'lr-plotted', axis: axisNode(axis, (x) => Math.round(100 * x) + ' %') },
    { title: 'Right', class: 'lr-num', says: 'Problems solved, of those answered' }, { title: 'No answer found', class: 'lr-num', says: 'Responses without a final answer; they count as wrong' },
    { title: 'Cut off', class: 'lr-num', says: 'Responses that reached the token limit' }, { title: 'Tokens', class: 'lr-num', says: 'Mean length of a response' }, { title: 'Tokens a second', class: 'lr-num' }];
  const row = (m) => ({ class: m.base ? 'lr-is-base' : '', cells: Number.isFinite(m.pass_at_1) ? [
    link ? el('a', { href: '?tab=evaluate&run=' + m.run, text: m.name }) : m.name, el('b', { text: pct(m.pass_at_1) }),
    el('span', { class: 'lr-plot-cell' }, intervalNode(axis, m.pass_at_1, m.interval, { at: base && !m.base ? base.pass_at_1 : null, look: m.base ? 'lr-ci-base' : '' }), el('span', { class: 'lr-between', text: pct(m.interval[0]) + ' \u2013 ' + pct(m.interval[1]) })),
    whole(m.right) + ' of ' + whole(m.problems), counted(m.extraction_failures, m), counted(m.truncations, m), m.mean_length.toFixed(1), m.tokens_per_second >= 10 ? whole(m.tokens_per_second) : m.tokens_per_second.toFixed(1)]
    : [m.name, '', el('span', { class: 'lr-muted', text: 'not begun yet' }), '', '', '', '', ''] });
  const papers = paper.map((p) => ({ class: 'lr-is-paper', cells: [el('span', {}, el('span', { class: 'lr-paper-mark', text: 'paper' }), ' ' + (PAPERS_WORDS[p.method] || p.method)), pct(p.value),
    el('span', { class: 'lr-plot-cell' }, intervalNode(axis, p.value, null, { look: 'lr-ci-paper' }), el('span', { class: 'lr-between lr-muted', text: 'no interval given' })), '', '', '', '', ''] }));
  return gridTable(name, columns, [...models.map(row), ...papers]);
}

function comparisonTable(models, comparisons, onFlips) {
  const axis = shareAxis(comparisons.flatMap((c) => [c.low, c.high]), { zero: true });
  const columns = [{ title: 'Model', class: 'lr-name' }, { title: 'Points', class: 'lr-num', says: 'Its pass@1 minus the first model\u2019s, in percentage points' },
    { title: '95 % interval', class: 'lr-plotted', axis: axisNode(axis, (x) => (x ? points(x).replace('.0', '') : '0')) }, { title: 'Gained', class: 'lr-num', says: 'Wrong before, right after' },
    { title: 'Lost', class: 'lr-num', says: 'Right before, wrong after' }, { title: 'Is it luck?', class: 'lr-luck', says: 'McNemar\u2019s test on the problems that changed sides; p is how often luck alone would do as much' }];
  const p = (x) => (x < 0.0001 ? 'p < 0.0001' : 'p = ' + x.toPrecision(2).replace(/^0\.00(\d)0$/, '0.00$1'));
  return gridTable('Compared problem by problem', columns, comparisons.map((c) => {
    const tone = c.verdict !== 'significant' ? '' : c.difference > 0 ? 'lr-better' : 'lr-worse';
    const number = (side) => el('button', { type: 'button', class: 'lr-flip-count', disabled: !c[side], 'data-key': side + c.model, 'aria-label': whole(c[side]) + ' ' + side + ' by ' + models[c.model].name, onclick: () => onFlips(c.model, side), text: whole(c[side]) });
    return { cells: [models[c.model].name, el('b', { class: tone, text: points(c.difference) }),
      el('span', { class: 'lr-plot-cell' }, intervalNode(axis, c.difference, [c.low, c.high], { at: 0, look: tone }), el('span', { class: 'lr-between', text: points(c.low) + ' to ' + points(c.high) })),
      number('gained'), number('lost'), el('span', {}, el('b', { text: c.verdict }), c.gained + c.lost ? el('span', { class: 'lr-muted lr-p', text: ' (' + p(c.p) + ')' }) : '')] };
  }));
}

function createEvaluation(host) {
  let data = null;
  const title = el('h2', { tabindex: '-1' }), badge = el('span'), facts = el('dl', { class: 'lr-numbers' }), error = el('div', { class: 'lr-error', role: 'alert', hidden: true });
  const progress = createEvaluationProgress((name) => act(() => host.act(name)));
  const remove = el('button', { type: 'button', text: 'Delete \u2026', onclick: () => ask(true) });
  const confirm = el('div', { class: 'lr-confirm', role: 'group', 'aria-label': 'Delete this evaluation?', hidden: true }, el('span', { text: 'Delete this evaluation and all its answers for good?' }),
    el('button', { type: 'button', class: 'lr-danger', text: 'Delete it', onclick: async () => { if (await act(host.remove)) ask(false); } }), el('button', { type: 'button', text: 'Keep it', onclick: () => ask(false) }));
  confirm.addEventListener('keydown', (event) => { if (event.key === 'Escape') ask(false); });
  const command = el('details', { class: 'lr-command', hidden: true }, el('summary', { text: 'The command that does the same' }), el('pre', { tabindex: '0' }));
  const results = el('div', { class: 'lr-results' }), so = el('p', { class: 'lr-muted' }), flips = createFlipLists(host);
  const card = el('div', { class: 'lr-card', hidden: true }, results);
  const node = el('section', { class: 'lr-dataset-view', 'aria-label': 'The evaluation', hidden: true },
    el('div', { class: 'lr-card lr-dataset-head' }, el('div', { class: 'lr-top' }, el('div', { class: 'lr-dataset-title' }, title, badge), remove), confirm, error, progress.node, facts, command), card, flips.node);

  const fail = (text) => { error.hidden = !text; error.textContent = text || ''; return text; };
  async function act(call) { return fail((await call()).error); }
  function ask(on) { confirm.hidden = !on; (on ? confirm.querySelector('.lr-danger + button') : remove).focus(); } // the harmless one
  const so_far = () => (data.state === 'done' ? '' : data.state === 'growing' || data.state === 'waiting' ? 'So far: these numbers move until it ends; short problems come first.' : 'It ended early: these are the answers that there are.');

  function show(now) {
    const other = !data || data.id !== now.id;
    data = now;
    node.hidden = false;
    if (other) { confirm.hidden = true; fail(''); flips.begin(); }
    if (title.textContent !== data.name) title.textContent = data.name;
    drawOnce(badge, data.state, () => [evaluationBadge(data.state)]);
    remove.hidden = data.state === 'growing' || data.state === 'waiting';
    if (remove.hidden) confirm.hidden = true;
    progress.show(data);
    drawOnce(facts, data.facts, () => data.facts.map(([name, value, says]) => el('div', { title: says || null }, el('dt', { text: name }), el('dd', { text: value }))));
    command.hidden = !data.command;
    if (command.querySelector('pre').textContent !== (data.command || '')) command.querySelector('pre').textContent = data.command || '';
    const begun = data.models.some((m) => m.problems);
    card.hidden = !begun;
    drawOnce(results, [data.models, data.comparisons, data.paper, data.state], () => (begun ? [
      el('h3', { text: 'pass@1' }), el('p', { class: 'lr-muted', hidden: !so_far(), text: so_far() }), modelsTable('pass@1 of each model', data.models, data.paper, false),
      ...(data.comparisons.length ? [el('h3', { text: 'Against ' + data.models[0].name }), comparisonTable(data.models, data.comparisons, (model, side) => flips.show(model, side, true))] : []),
      ...(data.models.length < 2 ? [el('p', { class: 'lr-muted', text: 'One model only: tick a fine-tuned one in the form, and the two are compared problem by problem.' })] : [])] : []));
    flips.update(data);
  }
  return { node, show, flips, focus: () => title.focus(), hide() { node.hidden = true; data = null; }, get data() { return data; } };
}
