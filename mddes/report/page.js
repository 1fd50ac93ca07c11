// Tables are sorted by a click (or Enter) on a column's head: as numbers where both cells begin with one, else as text.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.querySelectorAll("th")];
  heads.forEach((head, column) => {
    const text = (row) => row.cells[column].textContent.trim();
    const sort = () => {
      const direction = head.ariaSort === "ascending" ? -1 : 1;
      const compare = (a, b) => {
        const apart = parseFloat(text(a)) - parseFloat(text(b));
        return direction * (Number.isNaN(apart) ? text(a).localeCompare(text(b)) : apart);
      };
      const body = table.tBodies[0];
      [...body.rows].sort(compare).forEach((row) => body.append(row));
      heads.forEach((other) => { other.ariaSort = null; });
      head.ariaSort = direction === 1 ? "ascending" : "descending";
    };
    head.tabIndex = 0;
    head.title = "sort by this column";
    head.onclick = sort;
    head.onkeydown = (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); }
    };
  });
}
