// One dataset: what it is, its numbers, its steps. `host` has the server's calls; this file knows nothing of Gradio.

const TONES = { good: ['\u2713', 'Fine'], warn: ['!', 'Look at this'], bad: ['\u2715', 'A problem'] };
const DOWNLOADS = [
  ['paper', 'Samples (JSONL)', 'The samples at this selection, in the format of the paper\u2019s released samples'],
  ['parquet', 'Samples (Parquet)', 'The same samples as one table, with token ids of the prefix'],
  ['raw', 'Trajectories (Parquet)', 'Everything that was sampled: every step, whatever \u03b1 and \u03b2'],
];

function createExplorer(host) {
  let data = null, kind = null, brush = null, alpha = PAPER.alpha, beta = PAPER.beta, selector = 'kl', timer = 0;

  const title = el('h2', { tabindex: '-1' }), badge = el('span'), facts = el('dl', { class: 'lr-numbers' });
  const command = el('details', { class: 'lr-command', hidden: true }, el('summary', { text: 'The command that does the same' }), el('pre', { tabindex: '0' }),
    el('button', { type: 'button', text: 'Copy', onclick: async (event) => { event.target.textContent = (await copied(command.querySelector('pre').textContent)) ? 'Copied' : 'Select it to copy'; } }));
  const error = el('div', { class: 'lr-error', role: 'alert', hidden: true });
  const growth = createGrowth((name) => act(() => host.act(name)));

  const links = el('div', { class: 'lr-buttons', role: 'group', 'aria-label': 'Downloads' });
  const tune = el('a', { class: 'lr-job-made', href: '?tab=finetune', text: 'Fine-tune on it', title: 'Train the expert on these steps, with the settings that suit this pair' });
  const remove = el('button', { type: 'button', text: 'Delete \u2026', onclick: () => { confirm.hidden = false; confirm.querySelector('.lr-danger').focus(); } });
  const sure = el('span');
  const confirm = el('div', { class: 'lr-confirm', role: 'group', 'aria-label': 'Delete this dataset?', hidden: true }, sure,
    el('button', { type: 'button', class: 'lr-danger', text: 'Delete it', onclick: async () => { if (!(await act(host.remove))) { confirm.hidden = true; remove.focus(); } } }),
    el('button', { type: 'button', text: 'Keep it', onclick: () => { confirm.hidden = true; remove.focus(); } }));

  const push = createPush({ push: (kind, form) => host.push(kind, form), pushed: () => host.pushed() });
  const histogram = createHistogram((range) => { brush = range; steps.first(); rows(); });
  const kept = createDial({ title: 'Kept against \u03b2', says: 'share of all steps; drag the marker', label: 'Beta, the KL threshold in nats', xTicks: [0, 0.1, PAPER.beta, 1, 2, 3],
    root: true, step: 0.01, digits: 2, percentages: true, onInput: setBeta });
  const hard = createDial({ title: 'One-token targets against \u03b1', says: 'share of selected steps', label: 'Alpha, the plausibility threshold', xTicks: [PAPER.alphaFloor, PAPER.alpha, 0.4, 0.6, 0.8, 1],
    root: false, step: 0.01, digits: 2, percentages: true, onInput: setAlpha });
  const betaSays = el('p', { class: 'lr-chart-says' }), alphaSays = el('p', { class: 'lr-chart-says' });
  kept.node.append(betaSays);
  hard.node.append(alphaSays);
  const kinds = el('ul', { class: 'lr-kinds' }), health = el('ul', { class: 'lr-health' });
  const picker = el('select', { 'aria-label': 'Selector' }), selectorSays = el('p', { class: 'lr-muted' }), chosen = el('p', { class: 'lr-chosen' });
  picker.addEventListener('change', () => { selector = picker.value; changed(0); });
  const steps = createSteps({ onFilter: rows, onOpen: (row) => host.open(row), onMark: mark });

  const panel = (name, extra, ...children) => el('figure', { class: 'lr-chart ' + extra, 'aria-label': name }, el('figcaption', {}, el('b', { text: name })), ...children);
  const charts = el('div', { class: 'lr-charts' }, histogram.node, kept.node, hard.node,
    panel('Kinds of token', 'lr-kind-box', el('p', { class: 'lr-muted', text: 'Mean KL in nats, and how many steps. Select one to see only its steps.' }), kinds),
    panel('What is trained on', '', el('label', { class: 'lr-pick' }, el('span', { text: 'Selector' }), picker), selectorSays, chosen),
    panel('Health', '', health));
  const inside = el('div', { class: 'lr-inside' }, el('div', { class: 'lr-card' }, charts), steps.node);
  const node = el('section', { class: 'lr-dataset-view', 'aria-label': 'The dataset', hidden: true },
    el('div', { class: 'lr-card lr-dataset-head' }, el('div', { class: 'lr-top' }, el('div', { class: 'lr-dataset-title' }, title, badge), el('div', { class: 'lr-buttons' }, tune, remove)), confirm, error, growth.node, facts, links, push.node, command), inside);

  const fail = (text) => { error.hidden = !text; if (error.textContent !== (text || '')) error.textContent = text || ''; return text; };
  async function act(call) { const answer = await call(); return fail(answer.error); }
  async function mark(row, next) {
    const answer = await host.mark(row, next);
    if (!answer.error) { row.mark = next; changed(400); }
    return fail(answer.error);
  }
  const settings = () => ({ alpha, beta, selector });
  // Numbers that depend on the selection come a moment after the last movement; what can be drawn at once is.
  function changed(wait) { draw(); aim(); host.address(settings()); clearTimeout(timer); timer = setTimeout(() => host.refresh(), wait); }
  // what is chosen here goes along to the form
  function aim() { if (data) tune.href = '?' + new URLSearchParams({ tab: 'finetune', dataset: data.id, alpha, beta: +beta.toFixed(4), selector }); }
  function setBeta(value) { beta = value; changed(200); }
  function setAlpha(value) { alpha = value; changed(200); }
  async function rows() {
    if (!data || !data.steps) return;
    steps.busy(true);
    const answer = await host.rows({ ...steps.query, kind: kind || '', low: brush ? brush[0] : null, high: brush ? brush[1] : null, ...settings() });
    if (!answer) return; // a later question is on its way
    steps.busy(false);
    if (!fail(answer.error)) steps.show(answer);
  }

  function number(name, text, says) { return el('div', { title: says }, el('dt', { text: name }), el('dd', { text })); }
  function draw() {
    const share = data.steps ? data.above / data.steps : 0;
    histogram.draw({ ...data.histogram, beta });
    const curve = data.curve.map(([b, n]) => [b, data.steps ? n / data.steps : 0]), at = data.curve.find(([b]) => Math.abs(b - beta) < 1e-6);
    const above = at ? at[1] : data.above;
    kept.draw(curve, beta);
    betaSays.replaceChildren('\u03b2 = ' + beta.toFixed(2) + ' nats: ', el('b', { text: whole(above) + ' of ' + whole(data.steps) + ' steps' }), ', ' + percent(data.steps ? above / data.steps : share));
    hard.node.hidden = !data.alphas.length;
    if (data.alphas.length) {
      hard.draw(data.alphas.map((a) => [a.alpha, a.one_token]), alpha);
      const near = data.alphas.reduce((x, y) => (Math.abs(y.alpha - alpha) < Math.abs(x.alpha - alpha) ? y : x));
      alphaSays.replaceChildren('\u03b1 = ' + alpha.toFixed(2) + ': ', el('b', { text: near.tokens.toFixed(1) + ' tokens a target' }), ', ' + percent(near.one_token) + ' hold a single one');
    }
  }
  function drawKinds() {
    const most = Math.max(1e-9, ...data.kinds.map((k) => k.mean_kl));
    const held = kinds.contains(document.activeElement) ? document.activeElement.dataset.kind : null;
    kinds.replaceChildren(...data.kinds.map((k) => el('li', {}, el('button', { type: 'button', 'data-kind': k.kind, 'aria-pressed': String(kind === k.kind), title: k.says,
      onclick: () => { kind = kind === k.kind ? null : k.kind; drawKinds(); steps.first(); rows(); } },
    el('span', { class: 'lr-kind-name', text: k.title }), el('span', { class: 'lr-track' }, el('i', { style: 'width:' + ((100 * k.mean_kl) / most).toFixed(1) + '%' })),
    el('span', { class: 'lr-num', text: nats(k.mean_kl) }), el('span', { class: 'lr-num lr-muted', text: whole(k.steps) })))));
    if (held) kinds.querySelector('[data-kind="' + held + '"]')?.focus();
  }
  function showData(next) {
    const fresh = !data || data.id !== next.id;
    data = next;
    node.hidden = false;
    title.textContent = data.name;
    badge.replaceChildren(stateBadge(data.state));
    fail(data.trouble || '');
    growth.show(data.job, data);
    remove.hidden = ['growing', 'waiting'].includes(data.state); // its job has to be stopped first
    if (remove.hidden) confirm.hidden = true;
    facts.replaceChildren(...data.facts.map(([name, text, says]) => number(name, text, says)));
    command.hidden = !data.command;
    command.querySelector('pre').textContent = data.command || '';
    sure.textContent = 'Delete \u201c' + data.name + '\u201d, ' + bytes(data.bytes) + '? It cannot be undone.';
    inside.hidden = links.hidden = tune.hidden = !data.steps;
    if (!document.getElementById('lr-tab-finetune-button')) tune.hidden = true;
    aim();
    push.show(data.id, data.steps && !['growing', 'waiting'].includes(data.state) ? [['dataset', 'Dataset']] : []);
    if (!data.steps) return;
    links.replaceChildren(...DOWNLOADS.filter(([format]) => data.downloads.includes(format)).map(([format, text, says]) =>
      el('button', { type: 'button', 'data-format': format, title: says, text, onclick: async (event) => { event.target.disabled = true; await act(() => host.download(format, settings())); event.target.disabled = false; } })));
    if (picker.options.length !== data.selectors.length) picker.replaceChildren(...data.selectors.map((s) => el('option', { value: s.name, text: s.title })));
    picker.value = selector;
    selectorSays.textContent = (data.selectors.find((s) => s.name === selector) || {}).says || '';
    chosen.replaceChildren(...data.selection.map((part, i) => (i ? el('span', { class: 'lr-muted', text: part }) : el('b', { text: part }))));
    health.replaceChildren(...data.health.map((h) => el('li', { class: 'lr-tone-' + h.tone }, el('span', { class: 'lr-tone', role: 'img', 'aria-label': TONES[h.tone][1], text: TONES[h.tone][0] }), el('span', {}, el('b', { text: h.title }), ' ', h.says))));
    draw();
    drawKinds();
    if (fresh) rows();
  }
  return { node, show: showData, rows, settings, growth, fail, get held() { return steps.node.matches(':hover, :focus-within'); },
    adopt(moved) { ({ alpha, beta } = moved); }, // the sliders of the step view
    begin(asked) { // another dataset: its filters begin anew, alpha and beta are what its address says
      data = null; kind = brush = null; ({ alpha, beta, selector } = asked);
      node.hidden = true; confirm.hidden = true; fail(''); steps.reset(); histogram.reset();
    },
    focus() { title.focus({ preventScroll: true }); }, get data() { return data; } };
}

async function copied(text) { try { await navigator.clipboard.writeText(text); return true; } catch (e) { return false; } }
