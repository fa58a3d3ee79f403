// The Datasets tab on the Gradio page. In scope from Gradio: element, props, trigger, watch, server; lrAddress is address.js.

function mountDatasets(element, props, trigger, watch, server) {
  const USUAL = { alpha: PAPER.alpha, beta: PAPER.beta, selector: 'kl' }, TAB = 'datasets';
  let open = null, reading = null, asked = 0, looked = 0, seen = '', busy = false;
  const offline = () => ({ error: 'The server does not answer; check that it still runs, then reload.' });
  const call = (name, ...args) => server[name](...args).catch(offline);

  const list = createList((id) => show(id, USUAL));
  const explorer = createExplorer({
    rows: async (query) => { const mine = ++asked, answer = await call('rows', open, query); return mine === asked ? answer : null; },
    open: (row) => read(row.problem, row.sample, row.step),
    mark: (row, kind) => call('mark', open, row.problem, row.sample, row.step, kind),
    act: async (name) => { const answer = await call('act', open, name); look(true); return answer; },
    remove: async () => { const answer = await call('discard', [open]); if (!answer.error) { show(null); look(true); } return answer; },
    download: async (format, { alpha, beta, selector }) => {
      const answer = await call('prepare', open, format, alpha, beta, selector);
      if (!answer.error) { const link = el('a', { href: answer.url, download: answer.name }); document.body.append(link); link.click(); link.remove(); }
      return answer;
    },
    push: (kind, form) => call('push', open, kind, form), pushed: () => call('pushed', [open]),
    refresh: () => look(true),
    address: (settings) => put(settings),
  });
  const empty = el('section', { class: 'lr-card lr-empty', hidden: true }, el('h2', { text: props.intro.title }), ...props.intro.sentences.map((text) => el('p', { text })),
    el('button', { type: 'button', class: 'lr-primary', text: 'Build dataset', onclick: () => document.querySelector('#lr-ds-build')?.click() }));
  const pull = createPull({ pull: (repo, token) => call('pull', repo, token), pulled: (job) => call('pulled', [job]), done: (run) => { show(run); look(true); } });
  const hint = el('p', { class: 'lr-muted lr-hint', hidden: true, text: 'Select a dataset to explore it.' });
  const trouble = el('div', { class: 'lr-error', role: 'alert', hidden: true });
  const reader = createReader({
    load: (problem, sample, step) => call('trajectory', open, problem, sample, step), 
    file: (problem, sample, kind, alpha, beta) => call('trace_file', open, problem, sample, kind, alpha, beta), mark: (problem, sample, step, kind) => call('mark', open, problem, sample, step, kind),
    close: () => { reading = null; place(); put(explorer.settings()); look(true); explorer.rows(); explorer.focus(); },
    moved: (step, settings) => { if (reading) { reading.step = step; explorer.adopt(settings); put(explorer.settings()); } },
  });
  const root = element.querySelector('.lr-root');
  root.classList.add('lr', 'lr-data', 'lr-has-run'); // the reader's viewer is inside: nothing of it is to be hidden
  root.replaceChildren(trouble, list.node, hint, empty, explorer.node, reader.node, pull.node);

  const unusual = (settings) => Object.fromEntries(Object.entries(settings).filter(([name]) => name in USUAL).map(([name, value]) => [name, value === USUAL[name] ? null : value]));
  function put(settings) {
    lrAddress.put(TAB, { dataset: open, problem: reading && reading.problem, sample: reading && reading.sample, step: reading && reading.step >= 0 ? reading.step : null,
      ...(open ? unusual(settings) : { alpha: null, beta: null, selector: null }) });
  }
  function place() { // the list and the dataset, or one of its trajectories
    for (const node of [list.node, explorer.node, hint, pull.node]) node.classList.toggle('lr-away', !!reading);
    reader.node.hidden = !reading;
  }
  function show(id, settings = USUAL) {
    open = id; reading = null; seen = ''; looked += 1;
    explorer.begin(settings);
    place(); put(settings);
    trouble.hidden = true;
    if (id) look(true);
  }
  function read(problem, sample, step) { reading = { problem, sample, step }; place(); put(explorer.settings()); reader.open(problem, sample, step, explorer.settings()); }

  // What there is now. The numbers of the open dataset come again only when it grew or the settings moved.
  async function look(all) {
    if (busy && !all) return;
    busy = true;
    const mine = (looked += all ? 1 : 0), settings = explorer.settings();
    const answer = await call('overview', open, settings.alpha, settings.beta, settings.selector, all ? '' : seen);
    busy = false;
    if (mine !== looked) return; // something else was asked for since
    trouble.hidden = !answer.error;
    if (answer.error) { if (trouble.textContent !== answer.error) trouble.textContent = answer.error; if (!answer.datasets) return; }
    list.show(answer.datasets, open);
    empty.hidden = answer.datasets.length > 0 || !!answer.error;
    hint.hidden = !answer.datasets.length || !!open;
    if (!answer.open) { if (open && answer.error) explorer.node.hidden = true; return; }
    if (answer.open.unchanged) explorer.growth.show(answer.open.job, { ...explorer.data, ...answer.open });
    else { const grew = seen && !reading && explorer.data; seen = answer.open.version; explorer.show(answer.open); if (grew && !(explorer.held && answer.open.state === 'growing')) explorer.rows(); } // not under somebody's hands
  }
  // Only while somebody looks: once a second while something runs, else every five.
  let beat = 0;
  setInterval(() => {
    const growing = explorer.data && ['growing', 'waiting'].includes(explorer.data.state);
    if (document.hidden || !element.checkVisibility() || (beat++ % (growing ? 1 : 5))) return;
    look(false);
  }, 1000);

  function follow(params) {
    const said = (name) => { const x = Number(params.get(name)); return params.has(name) && Number.isFinite(x) ? x : null; };
    show(params.get('dataset'), { alpha: clamp(said('alpha') ?? PAPER.alpha, PAPER.alphaFloor, 1), beta: clamp(said('beta') ?? PAPER.beta, 0, 3), selector: params.get('selector') || 'kl' });
    if (open && params.has('problem')) read(params.get('problem'), said('sample') ?? 0, said('step') ?? -1);
    if (!open) look(true);
  }
  lrAddress.watch(TAB, follow);
  watch('value', () => { if (props.value) { const { open: id } = JSON.parse(props.value); if (id && id !== open) show(id); else look(true); if (innerWidth <= 900) element.scrollIntoView({ behavior: 'smooth', block: 'start' }); } });
  follow(lrAddress.get(TAB));
}
