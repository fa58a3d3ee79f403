// @ts-check
// What the engine tells the scripts (ui/scripts.py): the paper's constants, the measures of a step, whether this is a
// public server, the example trace's id, where formulas are rendered, and the figures that the page fills itself.

const { paper, measures, public: isPublic, example, formulas = '', figures } = JSON.parse(
  document.getElementById('lr-engine').textContent);

/** @type {{ alpha: number, beta: number, alphaFloor: number, teaches: number, tie: number }} */
export const PAPER = paper;
/** @type {{ key: string, name: string, says: string, full: number, tuned: boolean, target: boolean }[]} */
export const MEASURES = measures;
export const PUBLIC = isPublic;
export const EXAMPLE = example;
/** Where Gradio has the script that renders formulas, or ''; an exported file has none. @type {string} */
export const FORMULAS = formulas;
/** Figures without data, by name; each use takes a copy. @type {Record<string, object>} */
export const FIGURES = figures;
