// The viewer on the Gradio page. In scope from Gradio: element, props, trigger, watch, server; lrAddress is address.js.

function mountPage(element, props, trigger, watch, server) {
  let position = 0, shownRun = null, columns = [], wanted = null, owner = null, began = 0;

  const viewer = mountViewer(element.querySelector('.lr-root'), {
    idle: 'Ready',
    intro: props.intro,
    kinds: [['link', 'A link that opens this trace again, also after a restart'], ['json', 'Everything, with every step\u2019s distributions'],
      ['csv', 'One row a step'], ['png', 'A picture'], ['html', 'One file that opens anywhere, offline, as you see it here']],
    details: (run, index) => server.step(run, index).catch(offline),
    branch: async (run, step, token) => { trigger('branch', { run, step, token }); return ''; },
    open: (run, step) => { wanted = { step }; trigger('open', { run }); },
    take: async (kind, run, { alpha, beta, name }) => {
      if (kind === 'link') {
        try { await navigator.clipboard.writeText(location.href); return 'Link copied'; } catch (e) { return 'Copy it from the address bar'; }
      }
      const answer = await server.export(run, kind, alpha, beta).catch(offline);
      if (answer.error) return answer.error;
      download(name + '.' + kind, { json: 'application/json', csv: 'text/csv', html: 'text/html' }[kind], answer.content);
      return '';
    },
    address: ({ run, step, alpha, beta }) => lrAddress.put('inspect',
      { trace: run, step: step === -1 ? null : step, alpha: alpha === PAPER.alpha ? null : alpha, beta: beta === PAPER.beta ? null : beta, lens: null }),
  });
  const offline = () => ({ error: 'The server does not answer; check that it still runs, then reload.' });

  function running(on) { document.body.classList.toggle('lr-running', on); }

  // The value only ever grows: one JSON document a line. A shorter value, or another first line, is another run.
  function sync() {
    const value = String(props.value || ''), first = value.indexOf('\n'), head = first < 0 ? null : value.slice(0, first);
    if (head === null) return;
    if (head !== shownRun || value.length < position) {
      shownRun = head; position = first + 1; began = performance.now();
      const header = JSON.parse(head);
      columns = header.columns || [];
      owner = header.key ? { run: header.run, key: header.key } : null;
      if (header.run) viewer.begin(header);
      if (header.run && !wanted) wanted = header.view || null;
      running(!!owner);
      if (owner && innerWidth <= 900) element.scrollIntoView({ behavior: 'smooth', block: 'start' });
    }
    const end = value.lastIndexOf('\n') + 1, steps = [], lines = value.slice(position, end).split('\n');
    let ended = false;
    position = Math.max(position, end);
    const flush = () => { if (steps.length) viewer.append(steps.splice(0)); };
    for (const line of lines) {
      if (!line) continue;
      const item = JSON.parse(line);
      if (Array.isArray(item)) steps.push(stepFromLine(item, columns, viewer.count + steps.length));
      else {
        flush();
        if (item.facts) viewer.tell(item.facts);
        if (item.status) viewer.say(item.status, true);
        if (item.error) { viewer.fail(item.error); if (!item.end) viewer.say(viewer.run ? 'Broke off' : 'Ready', false); running(false); }
        if (item.end) { viewer.end(item.end, item.seconds); running(false); ended = true; }
      }
    }
    flush();
    if (document.body.classList.contains('lr-running') && viewer.count) {
      viewer.say('Writing \u00b7 ' + viewer.count + ' tokens', true);
    }
    if (wanted && (ended || viewer.count > (wanted.step ?? -1))) { // once it has ended, a step that is not there never comes
      const { step, alpha, beta } = wanted;
      wanted = null;
      if (beta !== undefined && beta !== null) viewer.setBeta(beta);
      if (alpha !== undefined && alpha !== null) viewer.setAlpha(alpha);
      if (step !== undefined && step !== null && step >= 0) viewer.select(step, false);
    }
  }

  document.addEventListener('click', (event) => {
    if (event.target.closest('#lr-stop') && owner) server.stop(owner.run, owner.key).catch(() => {});
  });
  lrAddress.watch('inspect', (params) => { // a link on another tab to a trace, or to a run's tuned expert
    if (!params.get('trace')) {
      if (params.get('lens')) trigger('lens', { run: params.get('lens') });
      return;
    }
    const said = (name) => (params.has(name) ? Number(params.get(name)) : null);
    wanted = { step: said('step'), alpha: said('alpha'), beta: said('beta') };
    trigger('open', { run: params.get('trace') });
  });
  watch('value', sync);
  sync();
}
