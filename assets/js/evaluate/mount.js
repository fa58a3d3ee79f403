// The Evaluate tab on the Gradio page. In scope from Gradio: element, props, trigger, watch, server; lrAddress is address.js.

function mountEvaluate(element, props, trigger, watch, server) {
  const TAB = 'evaluate';
  let open = null, filling = null, flip = null, marks = {}, kept = {}, looked = 0, busy = false, tuned = null;
  const offline = () => ({ error: 'The server does not answer; check that it still runs, then reload.' });
  const call = async (name, ...args) => (await server[name](args).catch(offline)) || offline(); // Gradio answers nothing when nobody is there

  const list = createEvaluationList((id) => show(id, true));
  const run = createEvaluation({
    listed: (model, side, start) => call('listed', open, model, side, start),
    open: (model, problem) => read(model, problem),
    act: async (name) => { const answer = await call('act', open, name); look(true); return answer; },
    remove: async () => { const answer = await call('discard', open); if (!answer.error) { show(null); document.getElementById('lr-tab-evaluate-button').focus(); } return answer; },
  });
  const reader = createFlip({
    flip: (model, problem) => call('flip', open, model, problem), score: (model, problem, side) => call('score', open, model, problem, side), scored: (trace) => call('scored', trace),
    close: () => { const key = flip && flip.problem; flip = null; reader.close(); place(); put(); look(true); (key && run.node.querySelector('.lr-flip-row[data-key$="' + CSS.escape(key) + '"]') || run).focus(); },
  });
  const overview = createOverview();
  const empty = el('section', { class: 'lr-card lr-empty', hidden: true }, el('h2', { text: props.intro.title }), ...props.intro.sentences.map((text) => el('p', { text })));
  const trouble = el('div', { class: 'lr-error', role: 'alert', hidden: true });
  const announce = el('div', { class: 'lr-unseen', role: 'status' });
  const root = element.querySelector('.lr-root');
  root.classList.add('lr', 'lr-data', 'lr-evaluate', 'lr-has-run'); // a flip's viewers are inside: nothing of them is to be hidden
  root.replaceChildren(trouble, announce, list.node, empty, run.node, overview.node, reader.node);

  function put() { lrAddress.put(TAB, { run: open || filling, model: flip && flip.model, problem: flip && flip.problem }); }
  function place() { // the list and what is open, or one flip
    for (const node of [list.node, run.node, overview.node]) node.classList.toggle('lr-away', !!flip);
    reader.node.hidden = !flip;
  }
  function show(id, focus) {
    open = id; filling = flip = null; looked += 1;
    marks = { evaluations: marks.evaluations, overview: marks.overview };
    reader.close();
    run.hide(); overview.hide();
    trouble.hidden = true;
    place(); put();
    look(true).then(() => focus && open && run.focus());
  }
  function read(model, problem) { flip = { model, problem }; place(); put(); reader.open(model, problem); }
  const trust = (text) => { trouble.hidden = !text; if (trouble.textContent !== (text || '')) trouble.textContent = text || ''; };

  // What there is now; what the page has already does not come again.
  async function look(all) {
    if (busy && !all) return;
    busy = true;
    const mine = (looked += all ? 1 : 0), answer = await call('look', open || filling, !open, marks);
    busy = false;
    if (mine !== looked) return; // something else was asked for since
    trust(answer.error);
    if (!answer.marks) return;
    marks = { ...marks, ...answer.marks };
    kept = { ...kept, ...Object.fromEntries(['evaluations', 'overview'].filter((part) => part in answer).map((part) => [part, answer[part]])) };
    if (answer.fills && open) { filling = open; open = null; trigger('prefill', { run: filling }); tuned = answer.tuned; look(true); return; }
    if (tuned !== answer.tuned) { tuned = answer.tuned; trigger('tuned', {}); }
    list.show(kept.evaluations, open);
    const bare = !kept.evaluations.length;
    empty.hidden = !bare || !!open;
    if (open) overview.hide(); else if (kept.overview) overview.show(kept.overview);
    if (answer.open) {
      const before = run.data;
      run.show(answer.open);
      if (before && before.state !== answer.open.state) announce.textContent = answer.open.name + ': ' + (EVALUATION_STATES[answer.open.state] || answer.open.state).toLowerCase();
    } else if (answer.error) run.hide();
  }
  // Only while somebody looks: once a second while the open one runs, else every five.
  let beat = 0;
  setInterval(() => {
    const growing = run.data && ['growing', 'waiting'].includes(run.data.state);
    if (document.hidden || !element.checkVisibility() || flip || (beat++ % (growing ? 1 : 5))) return;
    look(false);
  }, 1000);

  function follow(params) {
    show(params.get('run'));
    const model = Number(params.get('model'));
    if (open && params.has('problem') && Number.isInteger(model)) read(model, params.get('problem'));
  }
  lrAddress.watch(TAB, follow);
  watch('value', () => { if (props.value) { const { open: id } = JSON.parse(props.value); if (id && id !== open) show(id); if (innerWidth <= 900) element.scrollIntoView({ behavior: 'smooth', block: 'start' }); } });
  follow(lrAddress.get(TAB));
}
