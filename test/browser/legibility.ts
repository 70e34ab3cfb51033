/** How well the texts of a page stand out, by WCAG 2.2: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio */
import type { Page } from 'playwright-core';

/** For body text, level AA. */
const LEAST_CONTRAST = 4.5;

/** Runs in the page: relative luminance, colours one over another, and the colour behind an element. */
const COLOURS = `
  const parts = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    if (element === null) return [255, 255, 255, 1];
    const own = parts(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, behind(element.parentElement));
  };`;

/** @returns the texts that are shown with too little contrast, and how much; what is disabled may be faint. */
export const hardToRead = (page: Page): Promise<string[]> =>
  page.evaluate<string[]>(`(() => {${COLOURS}
    const found = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const { data, parentElement: element } = texts.currentNode;
      if (data.trim() === '' || !element.checkVisibility()) continue;
      if (element.closest('noscript, option, :disabled') !== null) continue;
      const back = behind(element);
      const [a, b] = [light(over(parts(getComputedStyle(element).color), back)), light(back)];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (contrast < ${LEAST_CONTRAST}) found.push(contrast.toFixed(2) + ' ' + data.trim());
    }
    return found;
  })()`);

/** Relative luminance of the page's ground, 0 to 1. */
export const backgroundLight = (page: Page): Promise<number> =>
  page.evaluate<number>(`(() => {${COLOURS} return light(behind(document.body)); })()`);
