// @ts-check
// One experiment: its stages, the forecast, the arms as they come in, and at the end the verdict and its files.
import { el, replaceIfChanged, setText } from '../shared/dom.js';
import { plural } from '../shared/format.js';
import { isActive } from '../shared/run_list.js';
import { RunHead } from '../shared/run_view.js';
import { armsChart, armsTable, flipCards, roundsChart } from './arms.js';
import { stageGroups } from './stages.js';

const ACTIONS = {
  keep: ['Stop and keep', 'End at the next checkpoint; Resume goes on there'],
  cancel: ['Cancel', 'Stop at once; what has ended stays'],
  resume: ['Resume', 'Do what is missing; nothing that has ended is done twice'],
};
const FILES = {
  report: ['Report (HTML)', 'Opens offline, without scripts'],
  card: ['Model card', 'Of the best arm’s adapter, in Markdown'],
  csv: ['Arms (CSV)', 'The table of the arms, with all digits'],
  tex: ['Arms (LaTeX)', 'The table of the arms, for booktabs'],
  plan: ['Plan (TOML)', 'Repeats the experiment on the command line'],
};
const DELETION = 'Delete this experiment with its dataset, its fine-tuned models and its evaluations? This cannot be '
  + 'undone.';

const card = (label, title, ...inside) => el('section', { class: 'lr-card lr-experiment-part', 'aria-label': label,
  hidden: true }, el('h3', { text: title }), ...inside);

export class ExperimentView {
  /** @param {any} host of RunTab */
  constructor(host) {
    this.host = host;
    /** @type {any} */ this.data = null;
    this.chart = armsChart();
    this.rounds = roundsChart();
    this.head = new RunHead(host, { noun: 'experiment', counts: 'Stages', actions: ACTIONS, deletes: () => DELETION });
    this.verdict = el('p', { class: 'lr-verdict' });
    this.forecast = el('p', { class: 'lr-muted' });
    this.stages = el('div', { class: 'lr-stage-groups' });
    this.table = el('div');
    this.early = el('p', { class: 'lr-muted' });
    this.flips = el('div', { class: 'lr-changed-list' });
    this.files = el('div', { class: 'lr-buttons' });
    this.repeat = el('pre', { class: 'lr-flip-text', tabindex: '0', 'aria-label': 'The command that repeats it' });
    this.parts = { stages: card('Stages', 'Stages', this.stages),
      arms: card('Arms', 'Arms', this.early, this.chart.node, this.table),
      flips: card('Flipped problems', 'What changed', this.flips),
      files: card('Files', 'Take it along', this.files, this.repeat) };
    this.node = el('section', { class: 'lr-run-view', 'aria-label': 'The experiment', hidden: true },
      this.head.layOut({ parts: [this.verdict, this.head.progress.node, this.forecast, this.head.facts] }),
      ...Object.values(this.parts));
  }
  focus() { this.head.title.focus(); }
  hide() { this.node.hidden = true; this.data = null; }

  show(data) {
    const { state, job, stages, arms, flips, files } = data, active = isActive(state), { parts } = this;
    if (this.data?.id !== data.id) this.head.begin();
    this.data = data;
    this.node.hidden = false;
    this.head.show(data, 'Running');
    const ended = stages.filter((stage) => ['succeeded', 'stopped'].includes(stage.state)).length;
    this.head.progress.show({ state, job, done: active ? job.done || 0 : ended, total: stages.length,
      counted: [stages.length && `${ended} of ${plural(stages.length, 'stage')} done`] });
    this.verdict.hidden = !data.sentence;
    setText(this.verdict, (data.sentence && active ? 'So far: ' : '') + (data.sentence || ''));
    this.forecast.hidden = !data.forecast;
    setText(this.forecast, data.forecast ? 'The preview, before training: ' + data.forecast : '');
    parts.stages.hidden = !stages.length;
    replaceIfChanged(this.stages, [stages, state], () => stageGroups(stages, state, data.rounds));
    parts.arms.hidden = !arms.length;
    setText(this.early, active ? 'Preliminary: more arms and problems are coming.' : '');
    replaceIfChanged(this.table, [arms, data.best], () => [armsTable(arms, data.best)]);
    parts.flips.hidden = !flips.length;
    const best = arms.find((arm) => arm.run === data.best);
    replaceIfChanged(this.flips, [flips, best?.evaluation], () => flipCards(flips, best?.evaluation));
    parts.files.hidden = !files.length;
    replaceIfChanged(this.files, files, () => files.map((kind) => this.fileButton(kind)));
    setText(this.repeat, data.repeat || '');
  }
  fileButton(kind) {
    const [text, title] = FILES[kind];
    return el('button', { 'data-key': kind, text: 'Download ' + text, title,
      onclick: () => this.head.act(() => this.host.download(kind)) });
  }
  /** The figures of the arms that show() has shown; undefined: as before. */
  draw(arms, rounds) {
    if (this.data?.rounds > 1) this.chart.node.before(this.rounds.node); else this.rounds.node.remove();
    for (const [chart, figure] of [[this.chart, arms], [this.rounds, rounds]]) {
      if (!figure) continue;
      figure.layout.uirevision = this.data?.id; // a zoom stays while results come
      chart.draw(figure);
    }
  }
}
