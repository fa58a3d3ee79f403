// The Fine-tune tab on the Gradio page. In scope from Gradio: element, props, trigger, watch, server; lrAddress is address.js.

function mountFinetune(element, props, trigger, watch, server) {
  const TAB = 'finetune';
  let open = null, compared = [], seen = {}, looked = 0, busy = false, renewed = null, wanted = null, lively = false;
  const offline = () => ({ error: 'The server does not answer; check that it still runs, then reload.' });
  const call = async (name, ...args) => (await server[name](...args).catch(offline)) || offline();

  const list = createTuningList({ onOpen: (id) => show(id), onCompare: (id, on) => compare(on ? [...compared, id] : compared.filter((other) => other !== id)) });
  const comparison = createComparison({ onClose: () => { compare([]); list.node.querySelector('input')?.focus(); } });
  const run = createTuning({
    act: async (name) => { const answer = await call('act', open, name); look(true); return answer; },
    remove: async () => {
      const answer = await call('discard', [open]);
      if (!answer.error) { compared = compared.filter((id) => id !== open); show(null); (list.node.querySelector('button') || document.getElementById('lr-tab-finetune-button')).focus(); }
      return answer;
    },
    push: (kind, form) => call('push', open, kind, form), pushed: () => call('pushed', [open]),
    merge: async () => { const answer = await call('merge', [open]); look(true); return answer; },
    download: async (kind) => {
      const answer = await call('prepare', open, kind);
      if (!answer.error) { const link = el('a', { href: answer.url, download: answer.name }); document.body.append(link); link.click(); link.remove(); }
      return answer;
    },
  });
  const empty = el('section', { class: 'lr-card lr-empty', hidden: true }, el('h2', { text: props.intro.title }), ...props.intro.sentences.map((text) => el('p', { text })),
    el('a', { class: 'lr-job-made', href: '?tab=datasets', text: 'Go to Datasets' }));
  const hint = el('p', { class: 'lr-muted lr-hint', hidden: true, text: 'Select a run to see its curves, or tick some to compare them.' });
  const trouble = el('div', { class: 'lr-error', role: 'alert', hidden: true });
  const root = element.querySelector('.lr-root');
  root.classList.add('lr', 'lr-data', 'lr-tuning');
  root.replaceChildren(trouble, list.node, hint, empty, comparison.node, run.node);

  function put() { lrAddress.put(TAB, { run: open, compare: compared.length ? compared.join() : null, dataset: null, alpha: null, beta: null, selector: null }); }
  function show(id) {
    if (id !== open) run.begin();
    open = id; delete seen.open; put();
    look(true);
  }
  function compare(ids) { compared = ids.slice(0, COMPARED); delete seen.compared; if (compared.length < 2) comparison.hide(); put(); look(true); }

  const seenNow = () => !document.hidden && element.checkVisibility();
  // What there is now. Curves come again only when they grew.
  async function look(all) {
    if (!seenNow() || (busy && !all)) return; // it asks when it is looked at
    busy = true;
    const mine = (looked += all ? 1 : 0), answer = await call('overview', open, compared.length > 1 ? compared : [], seen);
    busy = false;
    if (mine !== looked) return; // something else was asked for since
    trouble.hidden = !answer.error;
    if (trouble.textContent !== (answer.error || '')) trouble.textContent = answer.error || '';
    if (!answer.runs) return;
    lively = answer.runs.some((r) => ['growing', 'waiting'].includes(r.state)) || !!(answer.open && answer.open.merge && answer.open.merge.busy);
    list.show(answer.runs, open, compared);
    empty.hidden = answer.runs.length > 0 || !!answer.error;
    hint.hidden = !answer.runs.length || !!open || compared.length > 1;
    if (answer.compared && !answer.compared.unchanged) {
      const { missing } = answer.compared;
      comparison.show(answer.compared);
      if (missing.length) { compared = compared.filter((id) => !missing.includes(id)); put(); } else seen.compared = answer.compared.version;
    }
    if (answer.open) {
      if (answer.open.unchanged && run.data) run.state(answer.open);
      else { seen.open = answer.open.version; run.show(answer.open); }
    } else if (open && answer.error) run.begin();
    if (renewed !== answer.renew || wanted) { renewed = answer.renew; trigger('renew', wanted || {}); wanted = null; }
  }
  // Only while somebody looks: once a second while something runs, else every five.
  let beat = 0;
  setInterval(() => { if (seenNow() && !(beat++ % (lively ? 1 : 5))) look(false); }, 1000);
  window.addEventListener('lr-tab', (event) => { if (event.detail === TAB) requestAnimationFrame(() => look(true)); });

  function follow(params) {
    // what was chosen with the dataset, in the explorer, comes along
    const asked = ['dataset', 'alpha', 'beta', 'selector'].filter((name) => params.get(name));
    if (params.get('dataset')) wanted = Object.fromEntries(asked.map((name) => [name, params.get(name)]));
    compared = (params.get('compare') || '').split(',').filter(Boolean).slice(0, COMPARED);
    if (compared.length < 2) comparison.hide();
    seen = {};
    show(params.get('run') || null);
  }
  lrAddress.watch(TAB, follow);
  watch('value', () => { if (props.value) { const { open: id } = JSON.parse(props.value); show(id); if (innerWidth <= 900) element.scrollIntoView({ behavior: 'smooth', block: 'start' }); } });
  follow(lrAddress.get(TAB));
}
