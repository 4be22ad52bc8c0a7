"""The contact sheet: five pictures a row, encoded for a screen."""

from __future__ import annotations

import numpy as np

from mattebridge.report.contact_sheet import TITLES, SheetRow, contact_sheet
from mattebridge.report.drawing import CHECKER, GAP_PX, HEAD_PX, checker, display


def _row(height=54, width=96, label="1001", **changes):
    alpha = np.zeros((height, width, 1), np.float32)
    alpha[:, width // 2 :] = 1
    pixels = {
        "plate": np.full((height, width, 3), 0.18, np.float32),
        "clean_plate": np.full((height, width, 3), 4.0, np.float32),
        "alpha": alpha,
        "foreground": np.full((height, width, 3), [0.5, 0.0, 0.0], np.float32),
    }
    return SheetRow(label, **{**pixels, **changes})


def _cell(sheet, column, cell_width=96, height=54, row=0):
    x = GAP_PX + column * (cell_width + GAP_PX)
    y = HEAD_PX + row * (height + GAP_PX)
    return sheet[y : y + height, x : x + cell_width]


def test_the_sheet_has_five_columns_and_a_line_for_every_row():
    sheet = contact_sheet([_row(), _row(label="1012")], cell_width=96)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (HEAD_PX + 2 * (54 + GAP_PX), GAP_PX + len(TITLES) * (96 + GAP_PX), 3)


def test_middle_grey_is_shown_display_encoded_and_light_above_one_as_white():
    sheet = contact_sheet([_row()], cell_width=96)
    assert abs(int(_cell(sheet, 0)[5, 90, 0]) - 118) <= 1  # 0.18 is 46 % on a screen
    assert _cell(sheet, 1).min() == 255


def test_alpha_is_shown_as_a_number_and_not_as_light():
    half = np.full((54, 96), 0.5, np.float32)
    sheet = contact_sheet([_row(alpha=half)], cell_width=96)
    assert abs(int(_cell(sheet, 2)[20, 50, 1]) - 128) <= 1


def test_the_foreground_lies_over_a_checker_where_alpha_says_so():
    over = _cell(contact_sheet([_row()], cell_width=96), 4)
    greys = {int(value) for value in display(np.float32(CHECKER)[None, :, None])[0, :, 0]}
    assert {int(value) for value in np.unique(over[:, :40])} == greys
    red = over[20, 80]
    assert red[0] > 150
    assert red[1] == red[2] == 0


def test_given_premultiplied_pixels_are_what_the_comp_shows():
    glow = np.zeros((54, 96, 4), np.float32)
    glow[..., 1] = 0.5  # light without coverage adds to the checker
    over = _cell(contact_sheet([_row(premultiplied=glow)], cell_width=96), 4)
    assert over[20, 20, 1] > over[20, 20, 0] > 0


def test_a_dark_label_with_light_letters_stands_in_the_corner_of_the_plate():
    white = np.full((54, 96, 3), 1.0, np.float32)
    plate = _cell(contact_sheet([_row(plate=white)], cell_width=96), 0)
    assert plate[-6:, :20].min() < 120
    assert plate[:20].min() == 255


def test_pictures_keep_their_shape_when_frames_are_tall():
    sheet = contact_sheet([_row(height=80, width=40)], cell_width=20)
    assert sheet.shape[0] == HEAD_PX + 40 + GAP_PX


def test_title_and_footer_take_room_of_their_own():
    plain = contact_sheet([_row()], cell_width=96)
    named = contact_sheet([_row()], cell_width=96, title="a shot", footer="made today")
    assert named.shape[0] == plain.shape[0] + 2 * HEAD_PX
    assert np.array_equal(named[HEAD_PX : HEAD_PX + plain.shape[0]][:20], plain[:20])


def test_pixels_that_are_no_numbers_do_not_spoil_the_sheet():
    bad = np.full((54, 96, 3), np.nan, np.float32)
    assert _cell(contact_sheet([_row(foreground=bad)], cell_width=96), 3).max() == 0


def test_the_checker_has_squares_of_both_greys():
    squares = checker(54, 96)
    assert squares.shape == (54, 96, 1)
    assert 0.3 < (squares == CHECKER[0]).mean() < 0.7
