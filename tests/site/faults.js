// Returns what is wrong with the page that is shown: a list of texts.
// Text is compared with the colour behind it as WCAG 2.2 defines contrast; 4.5 is its level AA.
(() => {
  const faults = [];
  const root = document.documentElement;
  if (root.scrollWidth > window.innerWidth)
    faults.push(`the page is ${root.scrollWidth} px wide in ${window.innerWidth}`);
  const article = document.querySelector('article[role=main]') || document.body;
  const room = article.getBoundingClientRect();
  const name = element => `${element.tagName.toLowerCase()} ${element.textContent.trim().slice(0, 40)}`;
  if (article.querySelectorAll('h1').length !== 1) faults.push('not one heading of the first level');
  let level = 0;
  for (const heading of article.querySelectorAll('h1, h2, h3, h4, h5, h6')) {
    const own = Number(heading.tagName[1]);
    if (own > level + 1) faults.push(`a level of headings is passed over: ${name(heading)}`);
    level = own;
  }
  for (const image of article.querySelectorAll('img'))
    if (!image.naturalWidth) faults.push(`no picture: ${image.src.slice(0, 80)}`);
  const scrolls = element => {
    for (let at = element; at && at !== article; at = at.parentElement)
      if (['auto', 'scroll'].includes(getComputedStyle(at).overflowX)) return true;
    return false;
  };
  for (const element of article.querySelectorAll('p, li, table, pre, img, td, code')) {
    const box = element.getBoundingClientRect();
    if (box.width && box.right > room.right + 1 && !scrolls(element)) faults.push(`sticks out: ${name(element)}`);
  }
  if (window.innerWidth > 1000)
    for (const block of article.querySelectorAll('pre:not([tabindex]), .table-wrapper'))
      if (block.scrollWidth > block.clientWidth + 1)
        faults.push(`${block.scrollWidth - block.clientWidth} px are to be scrolled: ${name(block)}`);
  for (const cell of article.querySelectorAll('td'))
    if (cell.clientWidth < 70 && cell.clientHeight > 140) faults.push(`a narrow column: ${name(cell)}`);
  const parts = colour => {
    const numbers = colour.match(/[\d.]+/g).map(Number);
    return numbers.length === 3 ? [...numbers, 1] : numbers;
  };
  const light = colour => {
    const [red, green, blue] = colour.slice(0, 3).map(value => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0.5) return colour;
    }
    return [255, 255, 255, 1];
  };
  const pale = new Set();
  const texts = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.getClientRects().length) continue;
    if (element.closest('.headerlink, button, svg, script, style')) continue;
    const [one, two] = [light(parts(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (contrast < 4.5) pale.add(`contrast ${contrast.toFixed(1)}: ${element.tagName.toLowerCase()}.${element.className}`);
  }
  return [...faults, ...pale];
})()
